"""The mixture of softmaxes: a network that is more than one matrix of rank H to the vocabulary.

Letters: `B` rows, `T` steps, `H` units, `K` experts, `E` size of an expert's hidden vector, `V` vocabulary.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers.dropout import Dropout
from keraslm.layers.kernels.dispatch import cross_entropy
from keraslm.layers.tied import check_tied


@keras.saving.register_keras_serializable(package="keraslm")
class MixtureOfSoftmaxes(keras.layers.Layer):
    """Projection to the vocabulary by several softmaxes, whose probabilities are mixed; puts out log-probabilities.

    The logits of one softmax over all contexts are a matrix of rank H at most. Logarithms of a mixture have no such
    limit:

        prior = softmax(h @ prior_kernel)                               # [B, T, K]
        latent_k = dropout(tanh(h @ latent_kernel_k + latent_bias_k))   # [B, T, E]
        p(word) = sum over k of prior_k * softmax(latent_k @ kernel + bias)(word)

    All experts share kernel and bias. The cost is that of K projections of size E.

    Args:
        vocab_size: V.
        experts: K.
        size: E, of each expert's hidden vector.
        embedding: the built layer whose table `(V, E)` is the kernel; None gives the softmaxes a kernel of their own.
        dropout: rate of dropout on the experts' hidden vectors.
        locked: one mask a row for all steps of a window, as in `keraslm.layers.dropout.Dropout`; so Yang et al. do it.
        kernel_initializers: of each matrix, by the weight's name; Glorot's where there is none.
        seed: of the masks.

    Weights: `prior_kernel` `(H, K)`, `latent_kernel` `(H, K * E)`, `latent_bias` `(K * E,)`, `kernel` `(E, V)` unless
    it is the embedding's, `bias` `(V,)`.

    Input shape: `(B, T, H)`. Output shape: `(B, T, V)`, natural logarithms of probabilities.

    Raises:
        ValueError: when an embedding is given that has not E numbers a token.

    Example:
        >>> MixtureOfSoftmaxes(10000, experts=15, size=280)(hidden).shape
        (12, 70, 10000)

    Reference: Yang, Dai, Salakhutdinov and Cohen 2018, "Breaking the Softmax Bottleneck: A High-Rank RNN Language
    Model", arXiv:1711.03953.
    """

    def __init__(
        self,
        vocab_size: int,
        experts: int,
        size: int,
        embedding: keras.layers.Embedding | None = None,
        dropout: float = 0.0,
        locked: bool = False,
        kernel_initializers: dict[str, Any] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocab_size, self.experts, self.size, self.seed = vocab_size, experts, size, seed
        self.embedding = embedding
        self.dropout = Dropout(dropout, locked, seed=seed)
        self.kernel_initializers = {
            name: keras.initializers.get(value) for name, value in (kernel_initializers or {}).items()
        }

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        units, latent = int(input_shape[-1] or 0), self.experts * self.size
        self.prior_kernel = self._matrix("prior_kernel", (units, self.experts))
        self.latent_kernel = self._matrix("latent_kernel", (units, latent))
        self.latent_bias = self.add_weight(name="latent_bias", shape=(latent,), initializer="zeros")
        if self.embedding is None:
            self.kernel = self._matrix("kernel", (self.size, self.vocab_size))
        else:
            check_tied(self, self.embedding, self.size)
        self.bias = self.add_weight(name="bias", shape=(self.vocab_size,), initializer="zeros")

    def call(self, inputs: Any, training: bool = False) -> Any:
        log_prior, latents = self._experts(inputs, "float32", training)
        kernel = self.kernel if self.embedding is None else ops.transpose(self.embedding.embeddings)
        mixed = None
        for k in range(self.experts):  # one after the other: all at once they would be K times what is put out
            log_p = ops.log_softmax(ops.matmul(latents[:, :, k], kernel) + self.bias) + log_prior[:, :, k, None]
            mixed = log_p if mixed is None else ops.logaddexp(mixed, log_p)
        return mixed

    def nats(self, hidden: Any, targets: Any, product_dtype: str = "float32", training: bool = False) -> Any:
        """Cost of each target, `(B, T)`: K costs under single softmaxes, mixed, and never K distributions over V."""
        log_prior, latents = self._experts(hidden, product_dtype, training)
        rows, steps = ops.shape(hidden)[0], ops.shape(targets)[1]  # what TensorFlow knows of each, to count pieces
        every = ops.repeat(ops.cast(targets, "int32"), self.experts, axis=1)  # [B, T * K]
        table = self.kernel if self.embedding is None else self.embedding.embeddings
        flat = ops.reshape(latents, (rows, steps * self.experts, self.size))
        nats = cross_entropy(flat, table, self.bias, every, product_dtype, transposed=self.embedding is not None)
        return -ops.logsumexp(log_prior - ops.reshape(nats, (rows, steps, self.experts)), axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.vocab_size)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "experts": self.experts,
            "size": self.size,
            "embedding": keras.saving.serialize_keras_object(self.embedding),
            "dropout": self.dropout.rate,
            "locked": self.dropout.locked,
            "kernel_initializers": {
                name: keras.initializers.serialize(value) for name, value in self.kernel_initializers.items()
            },
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MixtureOfSoftmaxes:
        return cls(embedding=keras.saving.deserialize_keras_object(config.pop("embedding")), **config)

    def _experts(self, hidden: Any, product_dtype: str, training: bool) -> tuple[Any, Any]:
        """Logarithms of the prior `(B, T, K)`, and latent vectors `(B, T, K, E)`."""

        def product(kernel: Any) -> Any:
            low = product_dtype if product_dtype == "bfloat16" else hidden.dtype
            return ops.cast(ops.matmul(ops.cast(hidden, low), ops.cast(kernel, low)), hidden.dtype)

        latents = self.dropout(ops.tanh(product(self.latent_kernel) + self.latent_bias), training=training)
        rows, steps = ops.shape(hidden)[:2]
        latents = ops.reshape(latents, (rows, steps, self.experts, self.size))
        return ops.log_softmax(product(self.prior_kernel)), latents

    def _matrix(self, name: str, shape: tuple[int, ...]) -> Any:
        initializer = self.kernel_initializers.get(name, "glorot_uniform")
        return self.add_weight(name=name, shape=shape, initializer=initializer)
