"""AdamW with clipping."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import keras

from keraslm.optimizers.base import AdamWStep, ClippedOptimizer

EPSILON = 1e-8  # Kingma and Ba 2015, algorithm 1


@keras.saving.register_keras_serializable(package="keraslm")
class ClippedAdamW(ClippedOptimizer):
    """AdamW on the clipped gradient, with the variables that `ClippedOptimizer` has.

    At step t, with g the gradient times min(1, clip_norm / norm):

        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g ** 2
        w -= rate * (weight_decay * w + m / (1 - beta_1 ** t) / (sqrt(v / (1 - beta_2 ** t)) + 1e-8))

    Sparse gradients are made dense: m moves every row.

    Args:
        beta_1: decay of the mean of gradients.
        beta_2: decay of the mean of squared gradients.
        The others are those of `ClippedOptimizer`.

    Example:
        >>> model.compile(ClippedAdamW(1e-3, clip_norm=5.0, weight_decay=0.01), loss=SequenceLoss())

    References: Kingma and Ba 2015, Loshchilov and Hutter 2019.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        windows: int | None = None,
        averaging: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        name: str = "adamw",
    ):
        super().__init__(learning_rate, clip_norm, weight_decay, windows, averaging, name)
        self.beta_1, self.beta_2 = beta_1, beta_2

    def build(self, variables: list[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self.means = [self.add_variable_from_reference(v, name="mean") for v in variables]
        self.squares = [self.add_variable_from_reference(v, name="mean_square") for v in variables]

    def _update(self, updates: ModuleType, variables: list[Any], gradients: list[Any], rate: Any, factor: Any) -> None:
        places = [self._get_variable_index(v) for v in variables]
        moments = [self.means[place] for place in places], [self.squares[place] for place in places]
        number = keras.ops.cast(self.iterations.value + 1, "float32")
        step = AdamWStep(rate, factor, self.decay, number, (self.beta_1, self.beta_2), EPSILON)
        updates.adamw(variables, gradients, *moments, step)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2}
