"""Dropout with masks that cost little on torch, fresh at each step or locked for a window."""

from __future__ import annotations

from typing import Any

import keras

from keraslm.layers.masks import mask_like, on_torch_cpu


@keras.saving.register_keras_serializable(package="keraslm")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout`, with the masks of `keraslm.layers.masks` on torch's CPU.

    Args:
        rate: share of the elements that is dropped, 0 <= rate < 1.
        locked: one mask a row for all steps of a call, `(B, 1, D)` for inputs `(B, T, D)`, instead of a fresh one each
            step; in Keras' words `noise_shape=(None, 1, None)`.

    Example:
        >>> Dropout(0.5, locked=True)(ops.ones((1, 3, 2)), training=True)[0]     # perhaps
        [[2, 0], [2, 0], [2, 0]]

    Reference: Gal and Ghahramani 2016, arXiv:1512.05287, section 4, and Merity, Keskar and Socher 2018,
    arXiv:1708.02182, section 4.2, for the locked mask.
    """

    def __init__(self, rate: float, locked: bool = False, **kwargs: Any):
        kwargs.pop("noise_shape", None)
        super().__init__(rate, noise_shape=(None, 1, None) if locked else None, **kwargs)
        self.locked = locked

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0.0 or not on_torch_cpu(inputs):
            return super().call(inputs, training=training)
        return inputs * mask_like(inputs[:, :1] if self.locked else inputs, self.rate, self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["noise_shape"]
        return {**config, "locked": self.locked}
