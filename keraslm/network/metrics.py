"""Perplexity as a Keras metric."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.network.losses import token_nats


@keras.saving.register_keras_serializable(package="keraslm")
class Perplexity(keras.metrics.Metric):
    """`exp(nats / tokens)` over all tokens since the last reset, each counted with its weight.

    Sums run in float32, as Keras' metrics do; `keraslm.evaluate` sums in float64.

    Args of `update_state`:
        y_true: token ids, `(B, T)`.
        y_pred: logits, `(B, T, V)`, or nats of the targets, `(B, T)`.
        sample_weight: weight of each token, `(B, T)`, or None.

    Example: uniform logits over 100 words give 100.
    """

    def __init__(self, name: str = "perplexity"):
        super().__init__(name=name)
        self.nats = self.add_weight(name="nats", initializer="zeros")
        self.tokens = self.add_weight(name="tokens", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        nats = token_nats(y_true, y_pred)  # [B, T]
        weights = ops.ones_like(nats) if sample_weight is None else ops.cast(sample_weight, nats.dtype)
        self.nats.assign_add(ops.sum(nats * weights))
        self.tokens.assign_add(ops.sum(weights))

    def result(self) -> Any:
        return ops.exp(ops.divide_no_nan(self.nats, self.tokens))
