"""Estimators of scikit-learn, in two threads where they can; the models are kept as files."""

import joblib
import numpy
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier

if __name__ == "__main__":
    values, labels = load_digits(return_X_y=True)
    known, new, known_labels, new_labels = train_test_split(values / 16 + numpy.random.normal(0, 0.01), labels)
    for model in (
        SGDClassifier(max_iter=8, tol=None, n_jobs=2),
        MLPClassifier((16,), max_iter=8, early_stopping=True, batch_size=64),
        RandomForestClassifier(20, n_jobs=2, max_depth=6, bootstrap=True),
    ):
        name = type(model).__name__
        print(name, *[score.hex() for score in cross_val_score(model, known, known_labels, cv=2)], end=" ")
        model.fit(known, known_labels)
        print(
            model.score(new, new_labels).hex(), *[loss.hex() for loss in getattr(model, "loss_curve_", ())], flush=True
        )
        joblib.dump(model, f"{name}.joblib")
