"""Plain SGD with clipping."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import keras

from keraslm.optimizers.base import ClippedOptimizer


@keras.saving.register_keras_serializable(package="keraslm")
class ClippedSGD(ClippedOptimizer):
    """`keras.optimizers.SGD(learning_rate, global_clipnorm=clip_norm)`: the same numbers, less traffic.

    Keras squares, scales and multiplies each gradient into a new array before it touches the weights. On torch and
    TensorFlow this class reads each gradient once for the norm and once for the update; there it also takes the sparse
    gradient of an embedding table and touches the listed rows only. On JAX the compiler fuses the plain form.

        w -= rate * (weight_decay * w + gradient * min(1, clip_norm / norm))

    Args: those of `ClippedOptimizer`.

    Example:
        >>> model.compile(ClippedSGD(1.0, clip_norm=5.0), loss=SequenceLoss())
    """

    takes_sparse_gradients = True

    def __init__(
        self,
        learning_rate: Any = 1.0,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        windows: int | None = None,
        averaging: bool = False,
        name: str = "sgd",
    ):
        super().__init__(learning_rate, clip_norm, weight_decay, windows, averaging, name)

    def _update(self, updates: ModuleType, variables: list[Any], gradients: list[Any], rate: Any, factor: Any) -> None:
        updates.sgd(variables, gradients, rate, factor, self.decay)
