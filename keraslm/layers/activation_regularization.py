"""A penalty on large activations and on their changes."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keraslm")
class ActivationRegularization(keras.layers.Layer):
    """Returns its first input and, in training, adds a penalty to the loss:

        alpha * mean(dropped ** 2) + beta * mean((raw[:, 1:] - raw[:, :-1]) ** 2)

    The second term is 0 for a window of one step. The penalty is multiplied by T if the loss is summed over steps, and
    by B if the loss is summed over rows, so that `alpha` and `beta` mean the same for every loss. B counts the rows of
    all shares of a window.

    Args:
        alpha: factor of activation regularization ("AR").
        beta: factor of temporal activation regularization ("TAR").
        sum_steps: whether the loss is summed over steps; False means a mean.
        sum_rows: whether the loss is summed over rows; False means a mean.
        shares: number of shares of a window, whose losses are averaged.

    Input shape: a list of the output after dropout and the output before dropout, `(B, T, H)` each.

    Example:
        >>> layer = ActivationRegularization(alpha=2.0, beta=1.0)
        >>> layer([np.ones((1, 2, 3)), np.zeros((1, 2, 3))], training=True) is not None, float(layer.losses[0])
        (True, 2.0)

    Reference: Merity, McCann and Socher 2017, "Revisiting Activation Regularization for Language RNNs".
    """

    def __init__(
        self,
        alpha: float = 0.0,
        beta: float = 0.0,
        sum_steps: bool = False,
        sum_rows: bool = False,
        shares: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.alpha, self.beta = alpha, beta
        self.sum_steps, self.sum_rows, self.shares = sum_steps, sum_rows, shares

    def call(self, inputs: Any, training: bool = False) -> Any:
        dropped, raw = inputs
        if training:
            wide = keras.backend.result_type(raw.dtype, "float32")  # 16 bits are too few for sums
            dropped_wide, raw = ops.cast(dropped, wide), ops.cast(raw, wide)
            rows, steps, units = (ops.cast(size, wide) for size in ops.shape(raw))
            changes = ops.sum(ops.square(raw[:, 1:] - raw[:, :-1])) / (rows * ops.maximum(steps - 1.0, 1.0) * units)
            scale = (steps if self.sum_steps else 1.0) * (rows * self.shares if self.sum_rows else 1.0)
            penalty = scale * (self.alpha * ops.mean(ops.square(dropped_wide)) + self.beta * changes)
            self.add_loss(ops.cast(penalty, keras.config.floatx()))
        return dropped

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])
