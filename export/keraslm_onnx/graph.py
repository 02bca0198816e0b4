"""The inference twin of the trained network: stock Keras layers, the state as inputs and outputs.

The training model keeps its state in variables, which no exporter can follow, and its own layer would become an ONNX
`Loop`. Stock `keras.layers.LSTM` on the TensorFlow backend becomes one ONNX `LSTM` node a layer.
"""

from __future__ import annotations

import keras
from keras import ops

from keraslm.checkpoint import Weights
from keraslm.config import ModelConfig
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
    logits = keras.layers.Dense(vocab_size, name="logits")(x)
    next_h0, next_c0 = (ops.stack(parts) for parts in zip(*state, strict=True))
    model = keras.Model([ids, h0, c0], [ops.log_softmax(logits), next_h0, next_c0])
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/{variable.name}"] for variable in layer.weights])
    return model
