"""The sampled softmax: in training the target against a sample of the vocabulary, in evaluation against all of it."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keraslm.layers.kernels.dispatch import cross_entropy


@keras.saving.register_keras_serializable(package="keraslm")
class SampledSoftmax(keras.layers.Layer):
    """Projection to a large vocabulary that training looks at in samples; puts out logits.

    In training one set of negatives is drawn for all tokens of a window, with replacement, from the log-uniform
    distribution `P(k) = ln((k + 2) / (k + 1)) / ln(V + 1)`, which is close to that of words in order of frequency. They
    stand for the whole vocabulary in the softmax's denominator, each divided by how often it is expected among them; a
    negative that is the target itself does not count, the target's own term being exact:

        s(k)  = h . kernel[k] + bias[k]
        nats  = ln(exp s(target) + sum over negatives k of exp s(k) / (negatives * P(k))) - s(target)

    That is an estimate of the cost under the full softmax, and tends to it with the number of negatives. Ids must stand
    in order of falling frequency for it to be a good one.

    Args:
        vocab_size: V.
        negatives: drawn for a window.
        kernel_initializer: of the table, drawn with shape `(H, V)`, so that it starts as the full softmax does.
        seed: of the draws.

    Weights: `kernel` `(V, H)`, a row a word, so that the gradient is a list of rows; `bias` `(V,)`.

    Attributes:
        sparse_gradient: as in `keraslm.layers.embedding.Embedding`.

    Input shape: `(B, T, H)`. Output shape: `(B, T, V)`, logits.

    Reference: Bengio and Senécal 2008, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic
    Language Model", IEEE Transactions on Neural Networks 19; Jean, Cho, Memisevic and Bengio 2015, "On Using Very Large
    Target Vocabulary for Neural Machine Translation", arXiv:1412.2007. TensorFlow's `sampled_softmax_loss` divides the
    target's term, too.
    """

    def __init__(
        self,
        vocab_size: int,
        negatives: int,
        kernel_initializer: Any = "glorot_uniform",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocab_size, self.negatives, self.seed = vocab_size, negatives, seed
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.sparse_gradient = False
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        def transposed(shape: tuple[int, ...], dtype: Any = None) -> Any:
            return ops.transpose(self.kernel_initializer(shape[::-1], dtype=dtype))

        self.kernel = self.add_weight(name="kernel", shape=(self.vocab_size, input_shape[-1]), initializer=transposed)
        self.bias = self.add_weight(name="bias", shape=(self.vocab_size,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, ops.transpose(self.kernel)) + self.bias

    def nats(self, hidden: Any, targets: Any, product_dtype: str = "float32", training: bool = False) -> Any:
        """Cost of each target, `(B, T)`: estimated in training, exact elsewhere."""
        if not training:
            return cross_entropy(hidden, self.kernel, self.bias, targets, product_dtype, transposed=True)
        return self.estimated_nats(hidden, targets, self.draw(), product_dtype)

    def draw(self) -> Any:
        """Ids of the negatives of a window, int32 `(negatives,)`."""
        uniform = keras.random.uniform((self.negatives,), seed=self.seed_generator)
        ids = ops.floor(ops.exp(uniform * math.log(self.vocab_size + 1))) - 1.0
        return ops.cast(ops.clip(ids, 0, self.vocab_size - 1), "int32")

    def estimated_nats(self, hidden: Any, targets: Any, negatives: Any, product_dtype: str = "float32") -> Any:
        """Cost of each target, `(B, T)`, against the given negatives."""
        targets = ops.cast(targets, "int32")
        flat = ops.reshape(targets, (-1,))
        ids = ops.concatenate([flat, negatives])
        rows, bias = self._rows(ids), ops.take(self.bias, ids)
        count = -self.negatives
        own = ops.reshape(rows[:count], ops.shape(hidden))
        true = ops.sum(hidden * own, axis=-1) + ops.reshape(bias[:count], ops.shape(targets))  # [B, T]
        low = product_dtype if product_dtype == "bfloat16" else hidden.dtype
        product = ops.matmul(ops.cast(hidden, low), ops.transpose(ops.cast(rows[count:], low)))
        others = ops.cast(product, hidden.dtype) + bias[count:] - self._log_expected(negatives)  # [B, T, negatives]
        others = ops.where(ops.equal(targets[..., None], negatives), -1e9, others)
        both = ops.concatenate([true[..., None], others], axis=-1)
        return ops.logsumexp(both, axis=-1) - true

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.vocab_size)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "negatives": self.negatives,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
        }

    def _log_expected(self, ids: Any) -> Any:
        """`ln(negatives * P(id))`."""
        rank = ops.cast(ids, "float32")
        probability = ops.log1p(1.0 / (rank + 1.0)) / math.log(self.vocab_size + 1)
        return ops.log(probability * self.negatives)

    def _rows(self, ids: Any) -> Any:
        """Rows of the table, with a gradient that lists them alone where the backend and the optimizer can."""
        if keras.backend.backend() != "torch":
            return ops.take(self.kernel, ids, axis=0)
        import torch

        return torch.nn.functional.embedding(ids, ops.convert_to_tensor(self.kernel), sparse=self.sparse_gradient)
