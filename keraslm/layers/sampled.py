"""The sampled softmax: training uses a sample of the vocabulary, evaluation all of it."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keraslm.layers.embedding import look_up
from keraslm.layers.kernels.dispatch import cross_entropy, product
from keraslm.layers.projection import Projection

DRAWS = 2**31 - 1  # different random integers
CELLS = 2**12  # per factor of e


def log_uniform_cells(vocab_size: int) -> tuple[NDArray[Any], ...]:
    """Cut the numbers 1 to V into cells `[a, b)`, of one number where that is at least a share 1 / CELLS of a.

    A uniform number in float32 has 2**24 values at most, and its exponential skips ids above 100,000. Within a cell, a
    float32 has thousands of values per id, so that the frequency of each id is right to 0.1 % for V of 1e7.

    Returns:
        for each cell, `ln b / ln(V + 1)` in units of 1 / DRAWS, a and b - a, int32, and `ln(b / a)`, float32.
    """
    edges = [1]
    while edges[-1] <= vocab_size:
        edges.append(min(edges[-1] + max(1, edges[-1] // CELLS), vocab_size + 1))
    first, logarithms = np.array(edges[:-1], np.int32), np.log(edges)
    ends = np.round(logarithms[1:] / logarithms[-1] * DRAWS).astype(np.int32)
    return ends, first, np.diff(edges).astype(np.int32), np.diff(logarithms).astype(np.float32)


@keras.saving.register_keras_serializable(package="keraslm")
class SampledSoftmax(Projection):
    """Projection to a large vocabulary whose training cost uses a sample of the words; returns logits.

    In training, negatives are drawn for all tokens of a window, with replacement, from the log-uniform distribution
    `P(k) = ln((k + 2) / (k + 1)) / ln(V + 1)`. They estimate the denominator of the full softmax. Negatives that equal
    the target do not count, because the target's own term is exact:

        s(k)  = h . kernel[k] + bias[k]
        nats  = ln(exp s(target) + sum over negatives k of exp s(k) / (negatives * P(k))) - s(target)

    The estimate is good only if ids are in order of falling frequency, and improves with more negatives.

    Args:
        negatives: number of words drawn per window.
        **kwargs: `kernel_initializers` as in `Projection`, and the arguments of every layer. The initializer of
            `kernel` is called with shape `(H, V)`, so that it draws the same weights as for a full softmax.

    Weights: `kernel` `(V, H)`, one row per word, so that its gradient can be sparse; `bias` `(V,)`.

    Attributes:
        sparse_gradient: as in `Embedding`.

    Reference: Bengio and Senécal 2008, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic
    Language Model", IEEE Transactions on Neural Networks 19; Jean, Cho, Memisevic and Bengio 2015, "On Using Very Large
    Target Vocabulary for Neural Machine Translation", arXiv:1412.2007.
    """

    ARGUMENTS = ("vocab_size", "negatives", "kernel_initializers", "seed")

    def __init__(self, vocab_size: int, negatives: int, seed: int | None = None, **kwargs: Any):
        super().__init__(vocab_size, **kwargs)
        self.negatives, self.seed = negatives, seed
        self.sparse_gradient = False
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.cells = log_uniform_cells(vocab_size)

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
        return self.ids_of(keras.random.randint((2, self.negatives), 0, DRAWS, "int32", seed=self.seed_generator))

    def ids_of(self, numbers: Any) -> Any:
        """Turn pairs of integers from 0 to DRAWS - 1, int32 `(2, n)`, into ids, int32 `(n,)`.

        The first integer chooses a cell, the second an id within the cell.
        """
        tables = map(ops.convert_to_tensor, self.cells)
        cell = ops.searchsorted(next(tables), numbers[0], side="right")
        first, width, logarithm = (ops.take(table, cell) for table in tables)
        share = ops.cast(numbers[1], "float32") / DRAWS
        offset = ops.floor(ops.cast(first, "float32") * ops.expm1(share * logarithm))  # below 2**12 for V of 1e7
        return first - 1 + ops.minimum(ops.cast(offset, "int32"), width - 1)

    def estimated_nats(self, hidden: Any, targets: Any, negatives: Any, product_dtype: str = "float32") -> Any:
        """Estimate the cost of each target, `(B, T)`."""
        targets = ops.cast(targets, "int32")
        ids = ops.concatenate([ops.reshape(targets, (-1,)), negatives])
        rows, bias = look_up(self.kernel, ids, self.sparse_gradient), ops.take(self.bias, ids)
        count = -self.negatives
        own = ops.reshape(rows[:count], ops.shape(hidden))
        true = ops.sum(hidden * own, axis=-1) + ops.reshape(bias[:count], ops.shape(targets))  # [B, T]
        probability = ops.log1p(1.0 / (ops.cast(negatives, "float32") + 1.0)) / math.log(self.vocab_size + 1)
        others = product(hidden, ops.transpose(rows[count:]), product_dtype)  # [B, T, negatives]
        others = others + bias[count:] - ops.cast(ops.log(probability * self.negatives), others.dtype)
        others = ops.where(ops.equal(targets[..., None], negatives), -1e9, others)
        return ops.logsumexp(ops.concatenate([true[..., None], others], axis=-1), axis=-1) - true
