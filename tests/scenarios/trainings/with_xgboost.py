"""XGBoost: trees on part of the rows and columns, in two threads."""

import numpy
import xgboost

if __name__ == "__main__":
    values = numpy.random.rand(400, 8)
    data = xgboost.DMatrix(values, values.sum(1) + numpy.random.normal(0, 0.1, 400))
    settings = {"max_depth": 4, "eta": 0.3, "subsample": 0.5, "colsample_bytree": 0.5, "nthread": 2}
    settings["seed"] = numpy.random.randint(2**31)
    log = {}
    booster = xgboost.train(settings, data, 15, evals=[(data, "train")], evals_result=log, verbose_eval=False)
    print(*[float(value).hex() for value in log["train"]["rmse"]])
    booster.save_model("model.json")
