"""The base of all softmax layers, the tied softmax, and the layer that computes the cost of each target.

Shapes: `B` rows, `T` steps, `H` units, `V` vocabulary.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers import Configured
from keraslm.layers.kernels.dispatch import cross_entropy


class Projection(Configured):
    """Base of the softmax layers: `call` returns logits or log-probabilities, `nats` computes costs without them.

    Args:
        kernel_initializers: initializer of each matrix by the name of the weight; Glorot's by default.

    Input shape: `(B, T, H)`. Output shape: `(B, T, V)`.
    """

    def __init__(self, vocab_size: int, kernel_initializers: dict[str, Any] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocab_size, self.kernel_initializers = vocab_size, kernel_initializers or {}

    def nats(self, hidden: Any, targets: Any, product_dtype: str = "float32", training: bool = False) -> Any:
        """Return the cost of each target in nats, `(B, T)`, from hidden states `(B, T, H)` and token ids `(B, T)`."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.vocab_size)

    def _add(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        initializer = self.kernel_initializers.get(name, "glorot_uniform") if len(shape) > 1 else "zeros"
        return self.add_weight(name=name, shape=shape, initializer=initializer)


@keras.saving.register_keras_serializable(package="keraslm")
class TiedSoftmax(Projection):
    """Projection to the vocabulary by the embedding table; returns logits `h @ embeddings.T + bias`.

    The vector that represents a token as input also predicts it. Rows that `Embedding` drops in a call are not dropped
    here, as in Merity's program.

    A copy of a model by saving or by `keras.models.clone_model` is tied too. A clone finds the embedding by its name
    among the layers that the hidden states come from; if it is not there, the clone has a table of its own.

    Args:
        embedding: the built layer whose table `(V, H)` is used.

    Weights: `bias` `(V,)`; the table belongs to the embedding layer.

    Example:
        >>> TiedSoftmax(model.get_layer("embedding"), name="logits")(hidden).shape
        (20, 35, 10000)

    Reference: Inan, Khosravi and Socher 2017, "Tying Word Vectors and Word Classifiers", arXiv:1611.01462; Press and
    Wolf 2017, "Using the Output Embedding to Improve Language Models", arXiv:1608.05859.
    """

    ARGUMENTS = ("embedding",)
    SHARED = ("embedding",)

    def __init__(self, embedding: keras.layers.Embedding, **kwargs: Any):
        super().__init__(embedding.input_dim, **kwargs)
        self.embedding = embedding

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_tied(self, self.embedding, input_shape[-1])
        self.bias = self._add("bias", (self.vocab_size,))

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, ops.transpose(self.embedding.embeddings)) + self.bias

    def nats(self, hidden: Any, targets: Any, product_dtype: str = "float32", training: bool = False) -> Any:
        return cross_entropy(hidden, self.embedding.embeddings, self.bias, targets, product_dtype, transposed=True)


def check_tied(layer: keras.layers.Layer, embedding: keras.layers.Embedding, size: int | None) -> None:
    """Check that hidden states of `size` can be multiplied with an embedding table."""
    if size != embedding.output_dim:
        raise ValueError(
            f"Layer {layer.name!r} multiplies hidden states with the table of {embedding.name!r}, so both must have "
            f"the same size, but hidden states have {size} and embeddings {embedding.output_dim}."
        )


@keras.saving.register_keras_serializable(package="keraslm")
class ProjectionCrossEntropy(Configured):
    """Computes the cost of each target from hidden states, with less memory than a projection followed by a loss.

    The `B x T x V` logits are by far the largest array of a training step. See `kernels.dispatch.cross_entropy`.
    A model made by `keras.models.clone_model` has a projection of its own: build a model that returns costs and logits
    again instead of cloning it.

    Args:
        projection: the built layer whose weights are shared: a `Dense` layer without activation, or a `Projection`.
        product_dtype: "float32", or "bfloat16" for the operands and results of the matrix products.

    Input shape: a list of hidden states `(B, T, H)` and integer targets `(B, T)`. Output shape: `(B, T)`, nats.
    """

    ARGUMENTS = ("projection", "product_dtype")
    SHARED = ("projection",)

    def __init__(self, projection: keras.layers.Layer, product_dtype: str = "float32", **kwargs: Any):
        super().__init__(**kwargs)
        self.projection, self.product_dtype = projection, product_dtype

    def call(self, inputs: Any, training: bool = False) -> Any:
        hidden, targets = inputs
        if isinstance(self.projection, Projection):
            return self.projection.nats(hidden, targets, self.product_dtype, training)
        return cross_entropy(hidden, self.projection.kernel, self.projection.bias, targets, self.product_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[1])
