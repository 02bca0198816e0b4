"""The softmax whose kernel is the embedding table."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers.kernels.dispatch import cross_entropy


@keras.saving.register_keras_serializable(package="keraslm")
class TiedSoftmax(keras.layers.Layer):
    """Projection to the vocabulary by the embedding table; puts out logits.

    A token's vector as input is the vector that hidden states are compared with when it is to be predicted:

        logits = h @ embeddings.T + bias

    The table's gradient is the sum of both parts. It is read as it stands: rows that `Embedding` drops for a window
    are not dropped here (Merity's program does so too).

    Args:
        embedding: the built layer whose table `(V, H)` is used.

    Weights: `bias` `(V,)`; the table stays the embedding layer's.

    Input shape: `(B, T, H)`. Output shape: `(B, T, V)`, logits.

    Raises:
        ValueError: when hidden states have another size than the embeddings.

    Example:
        >>> TiedSoftmax(model.get_layer("embedding"), name="logits")(hidden).shape
        (20, 35, 10000)

    Reference: Inan, Khosravi and Socher 2017, "Tying Word Vectors and Word Classifiers", arXiv:1611.01462; Press and
    Wolf 2017, "Using the Output Embedding to Improve Language Models", arXiv:1608.05859.
    """

    def __init__(self, embedding: keras.layers.Embedding, **kwargs: Any):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_tied(self, self.embedding, input_shape[-1])
        self.bias = self.add_weight(name="bias", shape=(self.embedding.input_dim,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, ops.transpose(self.embedding.embeddings)) + self.bias

    def nats(self, hidden: Any, targets: Any, product_dtype: str = "float32", training: bool = False) -> Any:
        """Cost of each target, `(B, T)`; in training as elsewhere."""
        return cross_entropy(hidden, self.embedding.embeddings, self.bias, targets, product_dtype, transposed=True)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.embedding.input_dim)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "embedding": keras.saving.serialize_keras_object(self.embedding)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TiedSoftmax:
        return cls(keras.saving.deserialize_keras_object(config.pop("embedding")), **config)


def check_tied(layer: keras.layers.Layer, embedding: keras.layers.Embedding, size: int | None) -> None:
    """Refuse an embedding table that hidden states of `size` do not fit."""
    if size != embedding.output_dim:
        raise ValueError(
            f"Layer {layer.name!r} multiplies hidden states with the table of {embedding.name!r}, so both must have "
            f"one size, but hidden states have {size} and embeddings {embedding.output_dim}."
        )
