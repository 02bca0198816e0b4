"""From hidden states to the outputs `log_probs` and `target_log_probs`, for each softmax, in the TensorFlow operations
that tf2onnx makes plain nodes of.

Letters: `N` rows, `T` steps, `K` known targets, `H` units, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import pairwise
from typing import Any

import keras

from keraslm.config import ModelConfig
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm.layers.mixture import MixtureOfSoftmaxes

# Added to logarithms of probabilities before they are summed up, so that probabilities down to e^-107 do not underflow.
# More would cost digits, and the maximum of the experts for each word, the usual way, four times the time.
_RAISED = 20.0
_SMALLEST = 1.2e-38  # sum of which there is a logarithm, at full precision


def outputs_layer(config: ModelConfig, vocab_size: int) -> Outputs:
    """The layer `outputs` of a configuration's softmax; its `softmax` is not built yet."""
    if config.softmax == "adaptive":
        softmax = AdaptiveSoftmax(vocab_size, config.cutoffs or (), name="logits")
        return AdaptiveOutputs(softmax, vocab_size, name="outputs")
    if config.softmax == "mixture":
        softmax = MixtureOfSoftmaxes(vocab_size, config.num_experts, config.embedding_size, name="logits")
        return MixtureOutputs(softmax, vocab_size, name="outputs")
    return FullOutputs(keras.layers.Dense(vocab_size, name="logits"), vocab_size, name="outputs")


class Outputs(keras.layers.Layer):
    """Both outputs of a softmax: targets of the first K steps, distributions after the others.

    Args:
        softmax: the layer whose weights are used.
        vocab_size: V.

    Input shapes: hidden states `(N, T, H)` and targets `(N, K)`, int64. Output shapes: `(N, T - K, V)` and `(N, K)`,
    natural logarithms.
    """

    def __init__(self, softmax: Any, vocab_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.softmax, self.vocab_size = softmax, vocab_size

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        hidden, targets = input_shape
        return [(hidden[0], None, self.vocab_size), tuple(targets)]


class FullOutputs(Outputs):
    """Of a full softmax, a `Dense` layer."""

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        hidden, targets = inputs
        log_probs = _log_softmax(hidden, self.softmax.kernel, self.softmax.bias)  # [N, T, V]
        return log_probs[:, tf.shape(targets)[1] :], tf.gather_nd(log_probs, _places(targets))


class AdaptiveOutputs(Outputs):
    """Of an adaptive softmax.

    Written so that tf2onnx makes plain nodes of it: tokens are gathered and scattered, nothing is conditional. What is
    not wanted has no rows, and every operation here works on none. (A `Reshape` would not, for a 0 in its shape means
    "as in the input"; and `AdaptiveSoftmax` brings some along.)
    """

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        hidden, targets = inputs
        known = tf.shape(targets)[1]
        return self._distributions(hidden[:, known:]), self._of_targets(hidden[:, :known], targets)

    def _distributions(self, hidden: Any) -> Any:
        import tensorflow as tf

        first = self.softmax.ends[0]
        head = _log_softmax(hidden, *self.softmax.head)
        parts = [head[..., :first]]
        for cluster, (projection, kernel, bias) in enumerate(self.softmax.tails):
            inner = _log_softmax(tf.matmul(hidden, projection), kernel, bias)
            parts.append(head[..., first + cluster : first + cluster + 1] + inner)
        return tf.concat(parts, -1)

    def _of_targets(self, hidden: Any, targets: Any) -> Any:
        import tensorflow as tf

        ends, in_head, parts = self.softmax.ends, targets, []
        for cluster, (start, end) in enumerate(pairwise(ends)):
            inside = tf.logical_and(targets >= start, targets < end)
            projection, kernel, bias = self.softmax.tails[cluster]
            places = tf.where(inside)  # [n, 2]
            inner = _log_softmax(tf.matmul(tf.gather_nd(hidden, places), projection), kernel, bias)
            parts.append(_scattered(inner, tf.gather_nd(targets, places) - start, places, targets))
            in_head = tf.where(inside, tf.constant(ends[0] + cluster, targets.dtype), in_head)
        places = tf.where(targets >= 0)  # all of them
        head = _log_softmax(tf.gather_nd(hidden, places), *self.softmax.head)
        parts.append(_scattered(head, tf.gather_nd(in_head, places), places, targets))
        return tf.add_n(parts)


class MixtureOutputs(Outputs):
    """Of a mixture of softmaxes.

    The experts are computed one after the other, so that no value has more than V numbers a token. Where a target is
    given, its own log-probability under each expert is mixed, and never V of them.
    """

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        hidden, targets = inputs
        known, places = tf.shape(targets)[1], _places(targets)
        distributions = [log_prior + log_probs for log_prior, log_probs in self._experts(hidden[:, known:])]
        of_targets = [
            log_prior[..., 0] + tf.gather_nd(log_probs, places)
            for log_prior, log_probs in self._experts(hidden[:, :known])
        ]
        return _mixed(distributions), _mixed(of_targets)

    def _experts(self, hidden: Any) -> Iterator[tuple[Any, Any]]:
        """Of each expert the logarithm of its prior, raised, `(N, T, 1)`, and its log-probabilities, `(N, T, V)`."""
        import tensorflow as tf

        softmax, size = self.softmax, self.softmax.size
        log_priors = tf.nn.log_softmax(tf.matmul(hidden, softmax.prior_kernel)) + _RAISED  # [N, T, experts]
        latents = tf.tanh(tf.matmul(hidden, softmax.latent_kernel) + softmax.latent_bias)  # [N, T, experts * size]
        for k in range(softmax.experts):
            latent = latents[..., k * size : (k + 1) * size]
            yield log_priors[..., k : k + 1], _log_softmax(latent, softmax.kernel, softmax.bias)


def _mixed(parts: Iterable[Any]) -> Any:
    """Logarithm of the sum of probabilities whose logarithms, raised, are given.

    The sum so far stands behind what is added to it: onnxruntime computes the later input of a node first, so that the
    experts come one after the other. The other way round all of them were held in memory together.
    """
    import tensorflow as tf

    total = reduce(lambda total, part: part + total, map(tf.exp, parts))
    return tf.math.log(tf.maximum(total, _SMALLEST)) - _RAISED


def _places(targets: Any) -> Any:
    """Row, step and id of each target, `(N, K, 3)`."""
    import tensorflow as tf

    shape = tf.shape(targets, out_type=tf.int64)
    rows = tf.broadcast_to(tf.range(shape[0], dtype=tf.int64)[:, None], shape)
    steps = tf.broadcast_to(tf.range(shape[1], dtype=tf.int64)[None], shape)
    return tf.stack([rows, steps, targets], 2)


def _log_softmax(hidden: Any, kernel: Any, bias: Any) -> Any:
    import tensorflow as tf

    return tf.nn.log_softmax(tf.matmul(hidden, kernel) + bias)


def _scattered(log_probs: Any, ids: Any, places: Any, like: Any) -> Any:
    """Log-probability of one id a row of `(n, words)`, each at its place among zeros in the shape of `like`."""
    import tensorflow as tf

    rows = tf.range(tf.shape(ids, out_type=tf.int64)[0], dtype=tf.int64)
    found = tf.gather_nd(log_probs, tf.stack([rows, ids], 1))
    return tf.scatter_nd(places, found, tf.shape(like, out_type=tf.int64))
