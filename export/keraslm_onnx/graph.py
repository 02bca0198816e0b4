"""The inference twin of the trained network: stock Keras layers, the state as inputs and outputs.

The training model keeps its state in variables, which no exporter can follow, and its own layer would become an ONNX
`Loop`. Stock `keras.layers.LSTM` on the TensorFlow backend becomes one ONNX `LSTM` node a layer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
from keras import ops

from keraslm.config import ModelConfig
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm.weights import Weights
from keraslm_onnx import contract


def build_graph(config: ModelConfig, vocab_size: int, weights: Weights) -> keras.Model:
    """The network from ids and state to log-probabilities and state.

    Args:
        config: sizes of the trained network; dropout does not matter here.
        vocab_size: V.
        weights: every trained weight by name, as `keraslm.weights.read_weights` gives them.

    Returns:
        a `keras.Model` with the inputs and outputs of `contract`, in that order.
    """
    shape = (config.num_layers, None, config.units)  # [L, N, H]
    ids = keras.Input(batch_shape=(None, None), dtype="int64", name=contract.INPUT_IDS)
    h0 = keras.Input(batch_shape=shape, name=contract.H0)
    c0 = keras.Input(batch_shape=shape, name=contract.C0)
    x = Lookup(vocab_size, config.embedding_size, name="embedding")(ids)  # [N, T, D]
    state: list[tuple[object, object]] = []
    for number in range(config.num_layers):
        lstm = keras.layers.LSTM(
            config.units, return_sequences=True, return_state=True, use_cudnn=False, name=f"lstm_{number}"
        )
        x, h, c = lstm(x, initial_state=[h0[number], c0[number]])  # [N, T, H], [N, H], [N, H]
        state.append((h, c))
    next_h0, next_c0 = (ops.stack(parts) for parts in zip(*state, strict=True))
    targets = keras.Input(batch_shape=(None, None), dtype="int64", name=contract.TARGETS)
    outputs: FullOutputs | AdaptiveOutputs
    if config.softmax == "adaptive":
        outputs = AdaptiveOutputs(AdaptiveSoftmax(vocab_size, config.cluster_ends, name="logits"), name="outputs")
    else:
        outputs = FullOutputs(keras.layers.Dense(vocab_size, name="logits"), name="outputs")
    outputs.softmax.build(x.shape)
    log_probs, of_targets = outputs([x, targets])
    model = keras.Model([ids, h0, c0, targets], [log_probs, next_h0, next_c0, of_targets])
    if config.softmax == "sampled":
        weights = weights | {"logits/kernel": weights["logits/kernel"].T}  # a row a word, in training
    for layer in model.layers:
        layer = layer.softmax if isinstance(layer, FullOutputs | AdaptiveOutputs) else layer
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/{variable.name}"] for variable in layer.weights])
    return model


class Lookup(keras.layers.Embedding):
    """An embedding that looks ids up a step at a time, as the LSTM node reads them, and takes no id below 0.

    Input shape: ids `(N, T)`. Output shape: `(N, T, D)`. Keras' own layer counts negative ids from the end, for which
    nine nodes are computed at each call.
    """

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        return tf.transpose(tf.gather(self.embeddings, tf.transpose(inputs)), [1, 0, 2])


class FullOutputs(keras.layers.Layer):
    """Both outputs of a full softmax: targets of the first K steps, distributions after the others.

    Args:
        softmax: the `Dense` layer whose weights are used.

    Input shapes: hidden states `(N, T, H)` and targets `(N, K)`, int64. Output shapes: `(N, T - K, V)` and `(N, K)`,
    natural logarithms.
    """

    def __init__(self, softmax: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.softmax = softmax

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        hidden, targets = inputs
        log_probs = _log_softmax(hidden, self.softmax.kernel, self.softmax.bias)  # [N, T, V]
        shape = tf.shape(targets, out_type=tf.int64)
        rows = tf.broadcast_to(tf.range(shape[0], dtype=tf.int64)[:, None], shape)
        steps = tf.broadcast_to(tf.range(shape[1], dtype=tf.int64)[None], shape)
        return log_probs[:, tf.shape(targets)[1] :], tf.gather_nd(log_probs, tf.stack([rows, steps, targets], 2))

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        hidden, targets = input_shape
        return [(hidden[0], None, self.softmax.units), tuple(targets)]


class AdaptiveOutputs(keras.layers.Layer):
    """Both outputs of an adaptive softmax: targets of the first K steps, distributions after the others.

    Written so that tf2onnx makes plain nodes of it: tokens are gathered and scattered, nothing is conditional. What is
    not wanted has no rows, and every operation here works on none. (A `Reshape` would not, for a 0 in its shape means
    "as in the input"; and `AdaptiveSoftmax` brings some along.)

    Args:
        softmax: the layer whose weights are used.

    Input shapes: hidden states `(N, T, H)` and targets `(N, K)`, int64. Output shapes: `(N, T - K, V)` and `(N, K)`,
    natural logarithms.
    """

    def __init__(self, softmax: AdaptiveSoftmax, **kwargs: Any):
        super().__init__(**kwargs)
        self.softmax = softmax

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

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        hidden, targets = input_shape
        return [(hidden[0], None, self.softmax.vocab_size), tuple(targets)]


def _log_softmax(hidden: Any, kernel: Any, bias: Any) -> Any:
    import tensorflow as tf

    return tf.nn.log_softmax(tf.matmul(hidden, kernel) + bias)


def _scattered(log_probs: Any, ids: Any, places: Any, like: Any) -> Any:
    """Log-probability of one id a row of `(n, words)`, each at its place among zeros in the shape of `like`."""
    import tensorflow as tf

    rows = tf.range(tf.shape(ids, out_type=tf.int64)[0], dtype=tf.int64)
    found = tf.gather_nd(log_probs, tf.stack([rows, ids], 1))
    return tf.scatter_nd(places, found, tf.shape(like, out_type=tf.int64))
