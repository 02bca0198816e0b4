"""A small stateful LSTM layer with known weights, and a stream of four windows to run it on."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keraslm.layers.lstm import StatefulLSTM

B, T, D, H = 3, 5, 4, 6
RANDOM = np.random.default_rng(0)
STREAM = RANDOM.normal(size=(B, 4 * T, D)).astype(np.float32)  # [B, 4T, D]
WINDOWS = np.split(STREAM, 4, axis=1)
ZERO = np.zeros((B, H))


def to_numpy(value):
    return ops.convert_to_numpy(value)


def built(**arguments):
    """A layer with weights that no initializer draws."""
    layer = StatefulLSTM(H, name="memory", seed=1, **arguments)
    layer.build((B, None, D))
    for weight in layer.trainable_weights:
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape, scale=0.5))
    return layer


def weights_of(layer):
    return [to_numpy(w).astype(np.float64) for w in layer.trainable_weights]


def model_of(layer, learning_rate=0.0):
    inputs = keras.Input(batch_shape=(B, None, D))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(learning_rate), keras.losses.MeanSquaredError(reduction="sum"))
    return model


def assert_state(layer, h, c):
    np.testing.assert_allclose(to_numpy(layer.h), h, atol=1e-5)
    np.testing.assert_allclose(to_numpy(layer.c), c, atol=1e-5)


class Chunks(keras.utils.PyDataset):
    """The windows of the stream as batches, with targets for `fit`."""

    def __init__(self, with_targets):
        super().__init__()
        self.with_targets = with_targets

    def __len__(self):
        return len(WINDOWS)

    def __getitem__(self, index):
        inputs = WINDOWS[index]
        return (inputs, np.zeros((B, T, H), np.float32)) if self.with_targets else (inputs,)
