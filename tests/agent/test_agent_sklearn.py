"""What scikit-learn is fitted with and what it scores is in the record; the agent changes no bit of its results."""

import json

import pytest
from event_logs import of_kind
from frameworks import run_beside, series, told

pytest.importorskip("sklearn")

ESTIMATORS = """
import hashlib, json, pickle, warnings
import numpy
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score
from sklearn.model_selection import cross_val_score, cross_validate, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.base import BaseEstimator, ClassifierMixin
warnings.simplefilter("ignore")
x, y = load_iris(return_X_y=True)
train, test, targets, expected = train_test_split(x, y, random_state=0)
class Own(ClassifierMixin, BaseEstimator):
    def __init__(self, seed=1): self.seed = seed
    def fit(self, x, y): self.classes_ = numpy.unique(y); return self
    def predict(self, x): return numpy.zeros(len(x), dtype=int)
model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(train, targets)
guessed = model.predict(test)
seen = {
    "Pipeline.score": [model.score(train, targets), model.score(test, expected)],
    "accuracy_score": [accuracy_score(expected, guessed)],
    "f1_score": [f1_score(expected, guessed, average="macro")],
    "Own.score": [Own().fit(train, targets).score(test, expected)],
}
confusion_matrix(expected, guessed)
report = classification_report(expected, guessed, output_dict=True)
seen["classification_report.macro avg.recall"] = [report["macro avg"]["recall"]]
mlp = MLPClassifier((4,), max_iter=5, random_state=1).fit(train, targets)
seen["MLPClassifier.loss_curve_"] = mlp.loss_curve_
sgd = SGDClassifier(random_state=0)
seen["SGDClassifier.score"] = []
for step in range(3):
    sgd.partial_fit(train, targets, classes=[0, 1, 2])
    seen["SGDClassifier.score"].append(sgd.score(test, expected))
seen["cross_val_score"] = cross_val_score(LogisticRegression(), x, y, cv=3).tolist()
found = cross_validate(LogisticRegression(), x, y, cv=3, return_train_score=True)
seen |= {"cross_validate." + name: found[name].tolist() for name in ("test_score", "train_score")}
assert not hasattr(make_pipeline(StandardScaler()), "score")
assert pickle.loads(pickle.dumps(accuracy_score)) is accuracy_score
weights = [model.named_steps["logisticregression"].coef_, *mlp.coefs_, sgd.coef_]
print(json.dumps(seen))
print(hashlib.sha256(b"".join(each.tobytes() for each in weights)).hexdigest())
"""


def test_what_users_call_is_told_and_what_the_library_calls_is_not(run_agent):
    events, written = run_beside(run_agent, ESTIMATORS)
    found = series(events)
    for name, values in json.loads(written.splitlines()[0]).items():
        assert values == list(found[name].values()), name
        assert list(range(len(values))) == list(found[name])
    scored = {name for name in found if not name.startswith("classification_report.")}
    assert scored == {
        *("Pipeline.score", "accuracy_score", "f1_score", "Own.score", "SGDClassifier.score", "cross_val_score"),
        *(
            "MLPClassifier.loss_curve_",
            "MLPClassifier.best_loss_",
            "MLPClassifier.n_iter_",
            "cross_validate.test_score",
        ),
        "cross_validate.train_score",
    }
    configured = told(events, "sklearn")
    assert ("0.5", "lbfgs") == tuple(configured[f"Pipeline.logisticregression.{name}"] for name in ("C", "solver"))
    assert "['standardscaler', 'logisticregression']" == configured["Pipeline.steps"]
    assert ("5", "1") == (configured["MLPClassifier.max_iter"], configured["MLPClassifier.random_state"])
    assert not any(name.startswith("LogisticRegression.") for name in configured)  # cross-validation's own
    assert {"script.py"} == {e["site"].rpartition("/")[2].partition(":")[0] for e in of_kind(events, "hyperparameter")}


SEARCH = """
import hashlib, json, warnings
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
warnings.simplefilter("ignore")
x, y = load_iris(return_X_y=True)
scoring = make_scorer(f1_score, average="macro")
search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3, n_jobs=2, scoring=scoring).fit(x, y)
forest = RandomForestClassifier(4, n_jobs=2, random_state=3).fit(x, y)
folds = cross_val_score(RandomForestClassifier(3, random_state=1), x, y, cv=3, n_jobs=2)
seen = {"mean_test_score": search.cv_results_["mean_test_score"].tolist(), "best_score_": [search.best_score_]}
print(json.dumps([seen, forest.score(x, y), folds.tolist(), search.best_params_["C"]]))
print(hashlib.sha256(forest.predict_proba(x).tobytes() + search.best_estimator_.coef_.tobytes()).hexdigest())
"""


UNSEEDED = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import cross_val_score
import sys
x, y = load_iris(return_X_y=True)
model = SGDClassifier(max_iter=3) if "race" in sys.argv else LogisticRegression(max_iter=5)
cross_val_score(model, x, y, cv=4, n_jobs=2)
"""


@pytest.mark.parametrize("race", [True, False])
def test_what_workers_draw_without_a_seed_is_a_gap(run_agent, race):
    events, finished = run_agent(UNSEEDED, arguments=("race",) if race else ())
    assert 0 == finished.returncode, finished.stderr
    subjects = {gap["subject"] for gap in of_kind(events, "gap") if "joblib" in gap["reason"]}
    assert ({"sklearn"} if race else set()) == subjects


def test_searches_in_several_processes(run_agent):
    events, written = run_beside(run_agent, SEARCH)
    seen, score, folds, best = json.loads(written.splitlines()[0])
    found = series(events)
    for name, values in seen.items():
        assert values == list(found[f"GridSearchCV.{name}"].values())
    assert ([score], folds) == (
        list(found["RandomForestClassifier.score"].values()),
        list(found["cross_val_score"].values()),
    )
    configured = told(events, "sklearn")
    assert (str(best), "3") == (
        configured["GridSearchCV.best_params_.C"],
        configured["RandomForestClassifier.random_state"],
    )
    assert "GridSearchCV.estimator.solver" in configured
    assert not any("time" in name for name in found)
    assert not of_kind([e for e in events if e.get("source") != "sklearn"], "hyperparameter")  # joblib's own arguments
