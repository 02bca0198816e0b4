"""The adaptive softmax: full width for frequent words, narrower clusters for rare words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keraslm.config.clusters import adaptive_shapes
from keraslm.layers.kernels.dispatch import adaptive_cross_entropy
from keraslm.layers.projection import Projection


@keras.saving.register_keras_serializable(package="keraslm")
class AdaptiveSoftmax(Projection):
    """Projection to a large vocabulary by clusters of words of similar frequency; returns log-probabilities.

    The head is a softmax over the `cutoffs[0]` most frequent words and one entry per cluster. The probability of a word
    in cluster i is the probability of that entry times the word's probability within the cluster, a softmax over hidden
    states that are projected to `d_i` numbers:

        log p(word) = log head(cluster i | h) + log softmax(h @ projection_i @ kernel_i + bias_i)(word)

    This is fast only if ids are in order of falling frequency.

    Args:
        cutoffs: increasing ids below V, at which the head and each cluster but the last end.
        **kwargs: `kernel_initializers` as in `Projection`, and the arguments of every layer.

    Weights: `head_kernel` `(H, head + clusters)`, `head_bias`, and for each cluster i `tail_i_projection` `(H, d_i)`,
    `tail_i_kernel` `(d_i, words)`, `tail_i_bias`.

    Example:
        >>> AdaptiveSoftmax(10000, cutoffs=(2000, 5000))(hidden).shape
        (20, 35, 10000)

    Reference: Grave et al. 2017, "Efficient softmax approximation for GPUs", arXiv:1609.04309.
    """

    ARGUMENTS = ("vocab_size", "cutoffs", "kernel_initializers")

    def __init__(self, vocab_size: int, cutoffs: Sequence[int], **kwargs: Any):
        super().__init__(vocab_size, **kwargs)
        self.cutoffs = list(cutoffs)
        self.ends = (*cutoffs, vocab_size)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shapes = adaptive_shapes(int(input_shape[-1] or 0), tuple(self.cutoffs), self.vocab_size)
        kernel, bias, *tails = [self._add(name, shape) for name, shape in shapes.items()]
        self.head, self.tails = (kernel, bias), [tuple(tails[i : i + 3]) for i in range(0, len(tails), 3)]

    def call(self, inputs: Any) -> Any:
        head = ops.log_softmax(ops.matmul(inputs, self.head[0]) + self.head[1])
        first = self.ends[0]
        parts = [head[..., :first]]
        for cluster, (projection, kernel, bias) in enumerate(self.tails):
            inner = ops.log_softmax(ops.matmul(ops.matmul(inputs, projection), kernel) + bias)
            parts.append(head[..., first + cluster : first + cluster + 1] + inner)
        return ops.concatenate(parts, axis=-1)

    def nats(self, hidden: Any, targets: Any, product_dtype: str = "float32", training: bool = False) -> Any:
        return adaptive_cross_entropy(hidden, self.head, self.tails, targets, self.ends, product_dtype)
