"""Keras on PyTorch, which has optimizers and generators of its own."""

import keras
import numpy

if __name__ == "__main__":
    layers = [keras.layers.Dense(16, activation="relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    values, targets = numpy.random.rand(96, 8), numpy.random.rand(96, 1)
    history = model.fit(values, targets, batch_size=8, epochs=2, verbose=0, validation_split=0.25)
    model.save_weights("keras.weights.h5")
    for name, each in history.history.items():
        print(name, *[float(value).hex() for value in each])
