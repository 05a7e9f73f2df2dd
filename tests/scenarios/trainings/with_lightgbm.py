"""LightGBM: bagged trees, in two threads."""

import lightgbm
import numpy

if __name__ == "__main__":
    values = numpy.random.rand(400, 8)
    data, log = lightgbm.Dataset(values, values.sum(1) + numpy.random.normal(0, 0.1, 400)), {}
    settings = {"num_leaves": 7, "bagging_fraction": 0.5, "bagging_freq": 1, "feature_fraction": 0.5, "verbose": -1}
    settings |= {"num_threads": 2, "metric": "l2", "seed": int(numpy.random.randint(2**31))}
    watch = [lightgbm.record_evaluation(log)]
    booster = lightgbm.train(settings, data, 15, valid_sets=[data], valid_names=["train"], callbacks=watch)
    print(*[float(value).hex() for value in log["train"]["l2"]])
    booster.save_model("model.txt")
