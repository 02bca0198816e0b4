"""The sampled softmax: training compares the target with a sample of the vocabulary, evaluation with all of it."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keraslm.layers.embedding import look_up
from keraslm.layers.kernels.dispatch import cross_entropy
from keraslm.layers.projection import Projection


@keras.saving.register_keras_serializable(package="keraslm")
class SampledSoftmax(Projection):
    """Projection to a large vocabulary whose training cost uses a sample of the words; returns logits.

    In training, one set of negatives is drawn for all tokens of a window, with replacement, from the log-uniform
    distribution `P(k) = ln((k + 2) / (k + 1)) / ln(V + 1)`, which is close to that of words in order of frequency. The
    negatives stand for the whole vocabulary in the denominator of the softmax, each divided by its expected count among
    them. A negative that equals the target does not count, because the target's own term is exact:

        s(k)  = h . kernel[k] + bias[k]
        nats  = ln(exp s(target) + sum over negatives k of exp s(k) / (negatives * P(k))) - s(target)

    This estimates the cost under the full softmax and approaches it with more negatives. The estimate is good only if
    ids are in order of falling frequency.

    Args:
        vocab_size: V.
        negatives: number of words drawn per window.
        seed: seed of the draws.
        **kwargs: `kernel_initializers` and the arguments of every layer. The initializer of `kernel` is called with
            shape `(H, V)`, as for the full softmax, so that both start from the same weights.

    Weights: `kernel` `(V, H)`, one row per word, so that the gradient is a list of rows; `bias` `(V,)`.

    Attributes:
        sparse_gradient: as in `keraslm.layers.embedding.Embedding`.

    Reference: Bengio and Senécal 2008, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic
    Language Model", IEEE Transactions on Neural Networks 19; Jean, Cho, Memisevic and Bengio 2015, "On Using Very Large
    Target Vocabulary for Neural Machine Translation", arXiv:1412.2007. TensorFlow's `sampled_softmax_loss` also divides
    the term of the target.
    """

    ARGUMENTS = ("vocab_size", "negatives", "kernel_initializers", "seed")

    def __init__(self, vocab_size: int, negatives: int, seed: int | None = None, **kwargs: Any):
        super().__init__(vocab_size, **kwargs)
        self.negatives, self.seed = negatives, seed
        self.sparse_gradient = False
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        initializer = keras.initializers.get(self.kernel_initializers.get("kernel", "glorot_uniform"))

        def transposed(shape: tuple[int, ...], dtype: Any = None) -> Any:
            return ops.transpose(initializer(shape[::-1], dtype=dtype))

        self.kernel = self.add_weight(name="kernel", shape=(self.vocab_size, input_shape[-1]), initializer=transposed)
        self.bias = self._add("bias", (self.vocab_size,))

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, ops.transpose(self.kernel)) + self.bias

    def nats(self, hidden: Any, targets: Any, product_dtype: str = "float32", training: bool = False) -> Any:
        if not training:
            return cross_entropy(hidden, self.kernel, self.bias, targets, product_dtype, transposed=True)
        return self.estimated_nats(hidden, targets, self.draw(), product_dtype)

    def draw(self) -> Any:
        """Draw the negatives of a window; return their ids, int32 `(negatives,)`."""
        uniform = keras.random.uniform((self.negatives,), seed=self.seed_generator)
        ids = ops.floor(ops.exp(uniform * math.log(self.vocab_size + 1))) - 1.0
        return ops.cast(ops.clip(ids, 0, self.vocab_size - 1), "int32")

    def estimated_nats(self, hidden: Any, targets: Any, negatives: Any, product_dtype: str = "float32") -> Any:
        """Estimate the cost of each target, `(B, T)`, from the given negatives."""
        targets = ops.cast(targets, "int32")
        flat = ops.reshape(targets, (-1,))
        ids = ops.concatenate([flat, negatives])
        rows, bias = look_up(self.kernel, ids, self.sparse_gradient), ops.take(self.bias, ids)
        count = -self.negatives
        own = ops.reshape(rows[:count], ops.shape(hidden))
        true = ops.sum(hidden * own, axis=-1) + ops.reshape(bias[:count], ops.shape(targets))  # [B, T]
        low = product_dtype if product_dtype == "bfloat16" else hidden.dtype
        product = ops.matmul(ops.cast(hidden, low), ops.transpose(ops.cast(rows[count:], low)))
        others = ops.cast(product, hidden.dtype) + bias[count:] - self._log_expected(negatives)  # [B, T, negatives]
        others = ops.where(ops.equal(targets[..., None], negatives), -1e9, others)
        both = ops.concatenate([true[..., None], others], axis=-1)
        return ops.logsumexp(both, axis=-1) - true

    def _log_expected(self, ids: Any) -> Any:
        """`ln(negatives * P(id))`."""
        rank = ops.cast(ids, "float32")
        probability = ops.log1p(1.0 / (rank + 1.0)) / math.log(self.vocab_size + 1)
        return ops.log(probability * self.negatives)
