"""The inference twin of the trained network: stock Keras layers, the state as inputs and outputs.

The training model keeps its state in variables, which no exporter can follow, and its own layer would become an ONNX
`Loop`. Stock `keras.layers.LSTM` on the TensorFlow backend becomes one ONNX `LSTM` node a layer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
from keras import ops

from keraslm.checkpoint import Weights
from keraslm.config import ModelConfig
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm_onnx import contract


def build_graph(config: ModelConfig, vocab_size: int, weights: Weights) -> keras.Model:
    """The network from ids and state to log-probabilities and state.

    Args:
        config: sizes of the trained network; dropout does not matter here.
        vocab_size: V.
        weights: every trained weight by name, as `keraslm.checkpoint.read_weights` gives them.

    Returns:
        a `keras.Model` with the inputs and outputs of `contract`, in that order.
    """
    shape = (config.num_layers, None, config.units)  # [L, N, H]
    ids = keras.Input(batch_shape=(None, None), dtype="int64", name=contract.INPUT_IDS)
    h0 = keras.Input(batch_shape=shape, name=contract.H0)
    c0 = keras.Input(batch_shape=shape, name=contract.C0)
    x = keras.layers.Embedding(vocab_size, config.embedding_size, name="embedding")(ids)  # [N, T, D]
    state: list[tuple[object, object]] = []
    for number in range(config.num_layers):
        lstm = keras.layers.LSTM(
            config.units, return_sequences=True, return_state=True, use_cudnn=False, name=f"lstm_{number}"
        )
        x, h, c = lstm(x, initial_state=[h0[number], c0[number]])  # [N, T, H], [N, H], [N, H]
        state.append((h, c))
    next_h0, next_c0 = (ops.stack(parts) for parts in zip(*state, strict=True))
    if config.softmax == "adaptive":
        targets = keras.Input(batch_shape=(None, None), dtype="int64", name=contract.TARGETS)
        softmax = AdaptiveSoftmax(vocab_size, config.cluster_ends, name="logits")
        log_probs = softmax(x)
        of_targets = TargetLogProbs(softmax, name="of_targets")([x, targets])
        model = keras.Model([ids, h0, c0, targets], [log_probs, next_h0, next_c0, of_targets])
    else:
        logits = keras.layers.Dense(vocab_size, name="logits")(x)
        model = keras.Model([ids, h0, c0], [ops.log_softmax(logits), next_h0, next_c0])
    if config.softmax == "sampled":
        weights = weights | {"logits/kernel": weights["logits/kernel"].T}  # a row a word, in training
    for layer in model.layers:
        if layer.weights and not isinstance(layer, TargetLogProbs):
            layer.set_weights([weights[f"{layer.name}/{variable.name}"] for variable in layer.weights])
    return model


class TargetLogProbs(keras.layers.Layer):
    """Log-probability of each target `(N, T)` under an adaptive softmax, each cluster for its own tokens only.

    Written so that tf2onnx makes plain nodes of it: tokens are gathered and scattered, nothing is conditional.
    """

    def __init__(self, softmax: AdaptiveSoftmax, **kwargs: Any):
        super().__init__(**kwargs)
        self.softmax = softmax

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        hidden, targets = inputs
        ends = self.softmax.ends
        flat, ids = tf.reshape(hidden, (-1, hidden.shape[-1])), tf.reshape(targets, (-1,))
        in_head = ids
        for cluster, (start, end) in enumerate(pairwise(ends)):
            inside = tf.logical_and(ids >= start, ids < end)
            in_head = tf.where(inside, tf.fill(tf.shape(ids), tf.constant(ends[0] + cluster, tf.int64)), in_head)
        kernel, bias = self.softmax.head
        found = _picked(tf.matmul(flat, kernel) + bias, in_head)
        for (projection, kernel, bias), (start, end) in zip(self.softmax.tails, pairwise(ends), strict=True):
            member = tf.where(tf.logical_and(ids >= start, ids < end))  # [n, 1]
            own, number = tf.gather_nd(flat, member), tf.gather_nd(ids, member) - start
            inner = _picked(tf.matmul(tf.matmul(own, projection), kernel) + bias, number)
            found += tf.scatter_nd(member, inner, tf.shape(ids, out_type=tf.int64))
        return tf.reshape(found, tf.shape(targets))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[1])


def _picked(logits: Any, ids: Any) -> Any:
    """Log-probability of one id a row, `(n,)`."""
    import tensorflow as tf

    return tf.gather(tf.nn.log_softmax(logits), ids[:, None], batch_dims=1)[:, 0]
