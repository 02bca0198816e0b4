"""Label smoothing without an array of logits. Shapes: `B` rows, `T` steps, `H` units, `V` vocabulary."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers import Configured


@keras.saving.register_keras_serializable(package="keraslm")
class LabelSmoothing(Configured):
    """Returns hidden states and, in training, adds what label smoothing adds to the loss.

    With logits z, a target t of weight w and a share e that is spread over the vocabulary, the smoothed loss is

        (1 - e) * nats + e * (log sum exp z - mean z) = nats + e * (z_t - mean z)

    so no array of `B x T x V` is needed. The mean of the logits is one more product with the mean of the kernel.

    Args:
        share: e.
        projection: the built softmax layer.

    Input shape: a list of hidden states `(B, T, H)`, targets `(B, T)` and their weights `(B, T)`.

    Reference: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.
    """

    ARGUMENTS = ("share", "projection")
    SHARED = ("projection",)

    def __init__(self, share: float, projection: keras.layers.Layer, **kwargs: Any):
        super().__init__(**kwargs)
        self.share, self.projection = share, projection

    def call(self, inputs: Any, training: bool = False) -> Any:
        hidden, targets, weights = inputs
        if training:
            table, bias = output_table(self.projection)
            table, bias = table - ops.mean(table, axis=0), bias - ops.mean(bias)
            above = ops.sum(hidden * ops.take(table, targets, axis=0), axis=2) + ops.take(bias, targets)
            self.add_loss(self.share * ops.sum(weights * above))
        return hidden

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        return keras.KerasTensor(inputs[0].shape)


def output_table(projection: keras.layers.Layer) -> tuple[Any, Any]:
    """The weights of a softmax layer with one row per token, `(V, H)`, and its bias `(V,)`."""
    if hasattr(projection, "embedding"):
        return ops.convert_to_tensor(projection.embedding.embeddings), ops.convert_to_tensor(projection.bias)
    return ops.transpose(projection.kernel), ops.convert_to_tensor(projection.bias)
