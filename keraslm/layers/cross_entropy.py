"""Projection to the vocabulary and cross entropy as one layer."""

from __future__ import annotations

from typing import Any

import keras

from keraslm.layers.kernels.dispatch import cross_entropy


@keras.saving.register_keras_serializable(package="keraslm")
class ProjectionCrossEntropy(keras.layers.Layer):
    """From hidden states and targets to the cost of each target, without the logits of a window ever leaving the layer.

    `B x T x V` logits are by far the largest array of a language model's step, and a projection followed by a loss
    holds several of that size: logits, log-probabilities, their gradients. Here the gradient takes the place of the
    logits, and beyond a budget of memory they are worked through in pieces.

    Args:
        projection: the built layer whose weights are used, and shared: a `Dense` layer without activation, or one that
            knows the cost of targets itself, `nats(hidden, targets, product_dtype, training)`: `AdaptiveSoftmax`,
            `SampledSoftmax`, `TiedSoftmax`, `MixtureOfSoftmaxes`.
        product_dtype: "float32" or "bfloat16"; see `keraslm.layers.kernels.dispatch.lstm`.

    Input shapes: hidden states `(B, T, H)` and integer targets `(B, T)`, as a list.
    Output shape: `(B, T)`, nats.

    Example:
        >>> nats = ProjectionCrossEntropy(model.get_layer("logits"))([hidden, targets])
    """

    def __init__(self, projection: keras.layers.Dense, product_dtype: str = "float32", **kwargs: Any):
        super().__init__(**kwargs)
        self.projection = projection
        self.product_dtype = product_dtype

    def call(self, inputs: Any, training: bool = False) -> Any:
        hidden, targets = inputs
        if not isinstance(self.projection, keras.layers.Dense):
            return self.projection.nats(hidden, targets, self.product_dtype, training)
        return cross_entropy(hidden, self.projection.kernel, self.projection.bias, targets, self.product_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "projection": keras.saving.serialize_keras_object(self.projection),
            "product_dtype": self.product_dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ProjectionCrossEntropy:
        return cls(keras.saving.deserialize_keras_object(config.pop("projection")), **config)
