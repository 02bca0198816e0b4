"""The adaptive softmax: frequent words in full width, rare ones in narrower clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keraslm.config.clusters import adaptive_shapes
from keraslm.layers.kernels.dispatch import adaptive_cross_entropy


@keras.saving.register_keras_serializable(package="keraslm")
class AdaptiveSoftmax(keras.layers.Layer):
    """Projection to a large vocabulary by clusters of words of like frequency; puts out log-probabilities.

    The head is a softmax over the `cutoffs[0]` most frequent words and one entry a cluster. A word of cluster i has the
    probability of that entry times the word's within the cluster, a softmax over hidden states that were projected to
    `d_i` numbers:

        log p(word) = log head(cluster i | h) + log softmax(h @ projection_i @ kernel_i + bias_i)(word)

    Ids must stand in order of falling frequency for this to be fast; it is a distribution whatever their order.

    Args:
        vocab_size: V.
        cutoffs: ids at which the head and each cluster but the last end; increasing, below V.
        kernel_initializers: of each matrix, by the weight's name; Glorot's where there is none.

    Weights: `head_kernel` `(H, head + clusters)`, `head_bias`, and for each cluster i `tail_i_projection` `(H, d_i)`,
    `tail_i_kernel` `(d_i, words)`, `tail_i_bias`.

    Input shape: `(B, T, H)`. Output shape: `(B, T, V)`, natural logarithms of probabilities.

    Example:
        >>> AdaptiveSoftmax(10000, cutoffs=(2000, 5000))(hidden).shape
        (20, 35, 10000)

    Reference: Grave et al. 2017, "Efficient softmax approximation for GPUs", arXiv:1609.04309.
    """

    def __init__(
        self,
        vocab_size: int,
        cutoffs: Sequence[int],
        kernel_initializers: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocab_size, self.cutoffs = vocab_size, tuple(cutoffs)
        self.ends = (*self.cutoffs, vocab_size)
        self.kernel_initializers = {
            name: keras.initializers.get(value) for name, value in (kernel_initializers or {}).items()
        }

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        made = {}
        for name, shape in adaptive_shapes(int(input_shape[-1] or 0), self.cutoffs, self.vocab_size).items():
            initializer = self.kernel_initializers.get(name, "glorot_uniform") if len(shape) > 1 else "zeros"
            made[name] = self.add_weight(name=name, shape=shape, initializer=initializer)
        self.head = made["head_kernel"], made["head_bias"]
        self.tails = [
            tuple(made[f"tail_{cluster}_{part}"] for part in ("projection", "kernel", "bias"))
            for cluster in range(len(self.cutoffs))
        ]

    def call(self, inputs: Any) -> Any:
        head = ops.log_softmax(ops.matmul(inputs, self.head[0]) + self.head[1])
        first = self.ends[0]
        parts = [head[..., :first]]
        for cluster, (projection, kernel, bias) in enumerate(self.tails):
            inner = ops.log_softmax(ops.matmul(ops.matmul(inputs, projection), kernel) + bias)
            parts.append(head[..., first + cluster : first + cluster + 1] + inner)
        return ops.concatenate(parts, axis=-1)

    def nats(self, hidden: Any, targets: Any, product_dtype: str = "float32", training: bool = False) -> Any:
        """Cost of each target, `(B, T)`, without the distribution over all words; in training as elsewhere."""
        return adaptive_cross_entropy(hidden, self.head, self.tails, targets, self.ends, product_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.vocab_size)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "cutoffs": list(self.cutoffs),
            "kernel_initializers": {
                name: keras.initializers.serialize(value) for name, value in self.kernel_initializers.items()
            },
        }
