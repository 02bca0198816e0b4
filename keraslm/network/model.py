"""The network: embedding -> dropout -> recurrent layers with dropout after each -> projection to the vocabulary."""

from __future__ import annotations

from typing import Any

import keras

from keraslm import arguments
from keraslm.config import ModelConfig
from keraslm.layers.dropout import Dropout
from keraslm.layers.embedding import Embedding
from keraslm.layers.projection import ProjectionCrossEntropy
from keraslm.layers.recurrent import StatefulRecurrent
from keraslm.network.parts import SeededUniform, projection_layer, recurrent_layer, seed_of


def build_model(
    config: ModelConfig,
    vocab_size: int,
    batch_size: int,
    seed: int = 0,
    product_dtype: str = "float32",
    resets: bool = False,
    parts: int = 1,
) -> keras.Model:
    """Build the language model.

    Args:
        config: sizes, initialization and dropout.
        vocab_size: V.
        batch_size: B, number of rows, each with its own state.
        seed: seed of initial weights and dropout masks.
        product_dtype: type of the operands of the LSTMs' matrix products, "float32" or "bfloat16".
        resets: whether the model has a second input, bool `(B, T)`: True where the state of a row is set to zero.
        parts: number of calls that read a window, each with its own B rows and their states.

    Returns:
        A `keras.Model` from token ids `(B, T)` to logits `(B, T, V)` for any T. An adaptive softmax and a mixture
        return log-probabilities, which are logits too. The layers are named `embedding`, `embedding_dropout`, `lstm_0`
        (or `gru_0`, `rnn_0`), `output_dropout_0`, `lstm_1`, ..., `logits`; dropout layers exist only for rates above 0.

    Example:
        >>> model = build_model(ModelConfig(), vocab_size=10000, batch_size=20)
        >>> model.count_params() - 2 * 2 * 20 * 200       # without h and c of two layers
        4651600
    """

    arguments.instance(config, ModelConfig, "config", "a ModelConfig")
    for name, value in (("vocab_size", vocab_size), ("batch_size", batch_size)):
        arguments.integer(value, name, 1)

    def dropout(x: Any, rate: float, name: str) -> Any:
        return Dropout(rate, config.locked_dropout, seed=seed_of(seed, name), name=name)(x) if rate else x

    ids = keras.Input(batch_shape=(batch_size, None), dtype="int32", name="ids")
    starts = keras.Input(batch_shape=(batch_size, None), dtype="bool", name="resets") if resets else None
    embedding = Embedding(
        vocab_size,
        config.embedding_size,
        SeededUniform(config.embedding_init_scale or config.init_scale, seed, "embedding/embeddings"),
        row_dropout=config.embedding_row_dropout,
        seed=seed_of(seed, "embedding"),
        name="embedding",
    )
    x = dropout(embedding(ids), config.embedding_dropout, "embedding_dropout")  # [B, T, E]
    outputs: list[Any] = []
    for number, rate in enumerate(config.dropout_after):
        outputs.append(recurrent_layer(config, number, seed, product_dtype, parts)(x, resets=starts))  # [B, T, H]
        x = outputs[-1]
        if config.skip_connections and len(outputs) == len(config.sizes) > 1:
            x = keras.layers.Add(name="skip_connections")(outputs)
        x = dropout(x, rate, f"output_dropout_{number}")
    logits = projection_layer(config, vocab_size, embedding, seed)(x)
    return keras.Model([ids, starts] if resets else ids, logits, name="language_model")  # [B, T, V]


def nats_model(
    model: keras.Model, product_dtype: str = "float32", regularization: keras.layers.Layer | None = None
) -> keras.Model:
    """Build the model that training and evaluation run: the same layers and weights, without logits.

    Args:
        model: result of `build_model`.
        product_dtype: type of the operands of the projection's products, "float32" or "bfloat16".
        regularization: layer for training that receives the last output after dropout and before it, and returns the
            first.

    Returns:
        A `keras.Model` from `(ids, targets)`, `(B, T)` each, to the nats of each target, `(B, T)`; from `(ids, targets,
        resets)` if `model` has resets.
    """
    projection = model.get_layer("logits")
    targets = keras.Input(batch_shape=model.inputs[0].shape, dtype="int32", name="targets")
    hidden = projection.input
    if regularization is not None:
        hidden = regularization([hidden, stateful_layers(model)[-1].output])
    nats = ProjectionCrossEntropy(projection, product_dtype, name="cross_entropy")([hidden, targets])
    return keras.Model([model.inputs[0], targets, *model.inputs[1:]], nats, name="language_model_nats")


def stateful_layers(model: keras.Model) -> list[StatefulRecurrent]:
    """Return the recurrent layers of a model, lowest first."""
    return [layer for layer in model.layers if isinstance(layer, StatefulRecurrent)]


def reset_states(model: keras.Model) -> None:
    """Set the state of every recurrent layer of a model to zero."""
    for layer in stateful_layers(model):
        layer.reset_state()
