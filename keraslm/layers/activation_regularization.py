"""A penalty on large activations and on their changes."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keraslm")
class ActivationRegularization(keras.layers.Layer):
    """Passes the last layer's output on; in training it adds to the loss

        alpha * mean(dropped ** 2) + beta * mean((raw[:, 1:] - raw[:, :-1]) ** 2)

    for a loss that is the mean over steps and rows; times T where the loss sums over steps and times B where it sums
    over rows, so that `alpha` and `beta` mean the same in each convention. A window of one step has no change.

    Args:
        alpha: factor of the mean square of the output after dropout, "AR".
        beta: factor of the mean square of the change of the output before dropout, "TAR".
        sum_steps: whether the loss is summed over steps.
        sum_rows: whether the loss is summed over rows.

    Input shapes: the output after dropout and before it, `(B, T, H)` each, as a list.
    Output: the first of them.

    Example:
        >>> layer = ActivationRegularization(alpha=2.0, beta=1.0)
        >>> layer([np.ones((1, 2, 3)), np.zeros((1, 2, 3))], training=True) is not None, float(layer.losses[0])
        (True, 2.0)

    Reference: Merity, McCann and Socher 2017, "Revisiting Activation Regularization for Language RNNs".
    """

    def __init__(
        self, alpha: float = 0.0, beta: float = 0.0, sum_steps: bool = False, sum_rows: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.alpha, self.beta = alpha, beta
        self.sum_steps, self.sum_rows = sum_steps, sum_rows

    def call(self, inputs: Any, training: bool = False) -> Any:
        dropped, raw = inputs
        if training:
            self.add_loss(self._penalty(dropped, raw))
        return dropped

    def _penalty(self, dropped: Any, raw: Any) -> Any:
        rows, steps, units = (ops.cast(size, "float32") for size in ops.shape(raw))
        changes = ops.sum(ops.square(raw[:, 1:] - raw[:, :-1])) / (rows * ops.maximum(steps - 1.0, 1.0) * units)
        scale = (steps if self.sum_steps else 1.0) * (rows if self.sum_rows else 1.0)
        return scale * (self.alpha * ops.mean(ops.square(dropped)) + self.beta * changes)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("alpha", "beta", "sum_steps", "sum_rows")}
        return {**super().get_config(), **own}
