"""The mixture of softmaxes: log-probabilities that are not limited to a matrix of rank H.

Shapes: `B` rows, `T` steps, `H` units, `K` experts, `E` size of an expert's hidden vector, `V` vocabulary.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers.dropout import Dropout
from keraslm.layers.kernels.dispatch import cross_entropy, product
from keraslm.layers.projection import Projection, check_tied


@keras.saving.register_keras_serializable(package="keraslm")
class MixtureOfSoftmaxes(Projection):
    """Projection to the vocabulary by a weighted mean of several softmaxes; returns log-probabilities.

    Over all contexts, the logits of a single softmax form a matrix of rank H at most. The logarithms of a mixture have
    no such limit:

        prior = softmax(h @ prior_kernel)                               # [B, T, K]
        latent_k = dropout(tanh(h @ latent_kernel_k + latent_bias_k))   # [B, T, E]
        p(word) = sum over k of prior_k * softmax(latent_k @ kernel + bias)(word)

    All experts share kernel and bias.

    Args:
        embedding: the built layer whose table `(V, E)` is the kernel; None: the layer adds a kernel.
        dropout: rate of dropout on the experts' hidden vectors.
        locked: use the same mask for all steps of a window, as Yang et al. do.
        **kwargs: `kernel_initializers` as in `Projection`, and the arguments of every layer.

    Weights: `prior_kernel` `(H, K)`, `latent_kernel` `(H, K * E)`, `latent_bias` `(K * E,)`, `kernel` `(E, V)` unless
    it is the embedding's, `bias` `(V,)`.

    Example:
        >>> MixtureOfSoftmaxes(10000, experts=15, size=280)(hidden).shape
        (12, 70, 10000)

    Reference: Yang, Dai, Salakhutdinov and Cohen 2018, "Breaking the Softmax Bottleneck: A High-Rank RNN Language
    Model", arXiv:1711.03953.
    """

    ARGUMENTS = ("vocab_size", "experts", "size", "embedding", "dropout", "locked", "seed", "kernel_initializers")
    SHARED = ("embedding",)

    def __init__(
        self,
        vocab_size: int,
        experts: int,
        size: int,
        embedding: keras.layers.Embedding | None = None,
        dropout: float = 0.0,
        locked: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(vocab_size, **kwargs)
        self.experts, self.size, self.embedding, self.seed = experts, size, embedding, seed
        self.dropout, self.locked = dropout, locked
        self.drop = Dropout(dropout, locked, seed=seed, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        units, latent = int(input_shape[-1] or 0), self.experts * self.size
        self.prior_kernel = self._add("prior_kernel", (units, self.experts))
        self.latent_kernel = self._add("latent_kernel", (units, latent))
        self.latent_bias = self._add("latent_bias", (latent,))
        if self.embedding is None:
            self.kernel = self._add("kernel", (self.size, self.vocab_size))
        else:
            check_tied(self, self.embedding, self.size)
        self.bias = self._add("bias", (self.vocab_size,))

    def call(self, inputs: Any, training: bool = False) -> Any:
        log_prior, latents = self._experts(inputs, "float32", training)
        kernel = self.kernel if self.embedding is None else ops.transpose(self.embedding.embeddings)
        mixed = None
        for k in range(self.experts):  # all at once would take K times the memory of the output
            log_p = ops.log_softmax(ops.matmul(latents[:, :, k], kernel) + self.bias) + log_prior[:, :, k, None]
            mixed = log_p if mixed is None else ops.cast(ops.logaddexp(mixed, log_p), log_p.dtype)
        return mixed

    def nats(self, hidden: Any, targets: Any, product_dtype: str = "float32", training: bool = False) -> Any:
        # The costs under K softmaxes are mixed, without K distributions over V.
        log_prior, latents = self._experts(hidden, product_dtype, training)
        rows, steps = ops.shape(hidden)[0], ops.shape(targets)[1]  # in `fit()`, TensorFlow knows one from each
        every = ops.repeat(ops.cast(targets, "int32"), self.experts, axis=1)  # [B, T * K]
        table = self.kernel if self.embedding is None else self.embedding.embeddings
        flat = ops.reshape(latents, (rows, steps * self.experts, self.size))
        nats = cross_entropy(flat, table, self.bias, every, product_dtype, transposed=self.embedding is not None)
        return -ops.logsumexp(log_prior - ops.reshape(nats, (rows, steps, self.experts)), axis=-1)

    def _experts(self, hidden: Any, product_dtype: str, training: bool) -> tuple[Any, Any]:
        """Logarithms of the prior `(B, T, K)`, and latent vectors `(B, T, K, E)`."""
        latents = ops.tanh(product(hidden, self.latent_kernel, product_dtype) + self.latent_bias)
        latents = self.drop(latents, training=training)
        rows, steps = ops.shape(hidden)[:2]
        latents = ops.reshape(latents, (rows, steps, self.experts, self.size))
        return ops.log_softmax(product(hidden, self.prior_kernel, product_dtype)), latents
