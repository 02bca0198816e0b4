"""The inference twin of the trained network: stock Keras layers, the state as inputs and outputs.

The training model keeps its state in variables, which no exporter can follow, and its own layer would become an ONNX
`Loop`. Stock `keras.layers.LSTM` on the TensorFlow backend becomes one ONNX `LSTM` node a layer. Stock GRU and RNN
layers would become a `Loop`, too: their place stays open here, and `keraslm_export.recurrent` puts the nodes there.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.config import ModelConfig
from keraslm.runs.weights import Weights
from keraslm.scoring import contract
from keraslm_export.outputs import outputs_layer
from keraslm_export.recurrent import ABOVE


def build_graph(config: ModelConfig, vocab_size: int, weights: Weights) -> keras.Model:
    """The network from ids and state to log-probabilities and state.

    Args:
        config: sizes of the trained network; dropout does not matter here.
        vocab_size: V.
        weights: every trained weight by name, as `keraslm.runs.weights.read_weights` gives them.

    Returns:
        a `keras.Model` with the inputs and outputs of `contract`, in that order. For another cell than the LSTM, one
        from ids, targets and the hidden states of the last layer, `(T, N, H)`, to both outputs of the softmax and the
        embeddings, `(T, N, D)`.
    """
    ids = keras.Input(batch_shape=(None, None), dtype="int64", name=contract.INPUT_IDS)
    targets = keras.Input(batch_shape=(None, None), dtype="int64", name=contract.TARGETS)
    x = Lookup(vocab_size, config.embedding_size, name="embedding")(ids)  # [N, T, D]
    outputs = outputs_layer(config, vocab_size)
    outputs.softmax.build((None, None, config.sizes[-1]))
    if config.cell == "lstm":
        hidden, state, after = _lstm_stack(config, x)
        log_probs, of_targets = outputs([hidden, targets])
        model = keras.Model([ids, *state, targets], [log_probs, *after, of_targets])
    else:
        above = keras.Input(batch_shape=(None, None, config.sizes[-1]), name=ABOVE)
        found = outputs([ops.transpose(above, (1, 0, 2)), targets])
        model = keras.Model([ids, targets, above], [*found, ops.transpose(x, (1, 0, 2))])
    weights = weights | _kernel(config, weights)
    for layer in model.layers:
        layer = getattr(layer, "softmax", layer)
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/{variable.name}"] for variable in layer.weights])
    return model


def _lstm_stack(config: ModelConfig, x: Any) -> tuple[Any, list[Any], list[Any]]:
    """Hidden states `(N, T, H)` after inputs `(N, T, D)`; the inputs h0 and c0; the outputs next_h0 and next_c0.

    A layer that is narrower than the widest reads and writes the first columns of its plane of the state.
    """
    widest = max(config.sizes)
    h0, c0 = (
        keras.Input(batch_shape=(len(config.sizes), None, widest), name=name) for name in (contract.H0, contract.C0)
    )
    after: list[tuple[Any, Any]] = []
    for number, units in enumerate(config.sizes):
        lstm = keras.layers.LSTM(
            units, return_sequences=True, return_state=True, use_cudnn=False, name=f"lstm_{number}"
        )
        own = number if units == widest else (number, slice(None), slice(units))
        first = [h0[own], c0[own]]  # [N, units]
        x, h, c = lstm(x, initial_state=first)  # [N, T, units], [N, units], [N, units]
        if units < widest:
            h, c = (ops.pad(part, ((0, 0), (0, widest - units))) for part in (h, c))
        after.append((h, c))
    return x, [h0, c0], [ops.stack(parts) for parts in zip(*after, strict=True)]


def _kernel(config: ModelConfig, weights: Weights) -> Weights:
    """The kernel `(H, V)` of a softmax that keeps it elsewhere or in another order; else nothing."""
    if config.tie_weights:
        return {"logits/kernel": weights["embedding/embeddings"].T}
    if config.softmax == "sampled":
        return {"logits/kernel": weights["logits/kernel"].T}  # a row a word, in training
    return {}


class Lookup(keras.layers.Embedding):
    """An embedding that looks ids up a step at a time, as the nodes of the layers read them, and takes no id below 0.

    Input shape: ids `(N, T)`. Output shape: `(N, T, D)`. Keras' own layer counts negative ids from the end, for which
    nine nodes are computed at each call.
    """

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        return tf.transpose(tf.gather(self.embeddings, tf.transpose(inputs)), [1, 0, 2])
