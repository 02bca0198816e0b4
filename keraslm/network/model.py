"""The network: embedding -> dropout -> recurrent stack, dropout after each -> projection to the vocabulary."""

from __future__ import annotations

from typing import Any

import keras

from keraslm.config import ModelConfig
from keraslm.layers.cross_entropy import ProjectionCrossEntropy
from keraslm.layers.dropout import Dropout
from keraslm.layers.embedding import Embedding
from keraslm.layers.recurrent import StatefulRecurrent
from keraslm.network.initializers import SeededUniform, seed_of
from keraslm.network.projection import projection_layer
from keraslm.network.recurrent import recurrent_layer


def build_model(
    config: ModelConfig,
    vocab_size: int,
    batch_size: int,
    seed: int = 0,
    product_dtype: str = "float32",
    resets: bool = False,
) -> keras.Model:
    """Build the language model.

    Args:
        config: sizes, initialisation and dropout.
        vocab_size: V, size of the vocabulary.
        batch_size: B, rows whose state the model carries.
        seed: of initial weights and dropout masks.
        product_dtype: of the operands of the LSTMs' matrix products, "float32" or "bfloat16".
        resets: whether the model takes a second input, bool `(B, T)`: True where a row's state starts from zeros.

    Returns:
        a `keras.Model` from token ids `(B, T)` to logits `(B, T, V)`, T free; an adaptive softmax and a mixture put out
        log-probabilities, which are logits too. Layers are named `embedding`, `embedding_dropout`, `lstm_0`,
        `output_dropout_0`, `lstm_1`, ..., `logits`, with the cell's name for `lstm`; a dropout layer is there only
        where its rate is above 0.

    Example:
        >>> model = build_model(ModelConfig(), vocab_size=10000, batch_size=20)
        >>> model.count_params() - 2 * 2 * 20 * 200       # without h and c of two layers
        4651600
    """

    def uniform(name: str, scale: float | None = None) -> SeededUniform:
        return SeededUniform(scale or config.init_scale, seed, name)

    def dropout(x: Any, rate: float, name: str) -> Any:
        return Dropout(rate, config.locked_dropout, seed=seed_of(seed, name), name=name)(x) if rate else x

    ids = keras.Input(batch_shape=(batch_size, None), dtype="int32", name="ids")
    starts = keras.Input(batch_shape=(batch_size, None), dtype="bool", name="resets") if resets else None
    embedding = Embedding(
        vocab_size,
        config.embedding_size,
        embeddings_initializer=uniform("embedding/embeddings", config.embedding_init_scale),
        row_dropout=config.embedding_row_dropout,
        seed=seed_of(seed, "embedding"),
        name="embedding",
    )
    x = dropout(embedding(ids), config.embedding_dropout, "embedding_dropout")  # [B, T, E]
    for number, rate in enumerate(config.dropout_after):
        layer = recurrent_layer(config, number, uniform, seed_of(seed, f"{config.cell}_{number}"), product_dtype)
        x = dropout(layer(x, resets=starts), rate, f"output_dropout_{number}")  # [B, T, H]
    logits = projection_layer(config, vocab_size, embedding, seed)(x)
    return keras.Model([ids, starts] if resets else ids, logits, name="language_model")  # [B, T, V]


def nats_model(
    model: keras.Model, product_dtype: str = "float32", regularization: keras.layers.Layer | None = None
) -> keras.Model:
    """The model that training and evaluation run: the same layers and weights, without logits.

    Args:
        model: of `build_model`.
        product_dtype: of the operands of the projection's products, "float32" or "bfloat16".
        regularization: for training: gets the last layer's output after dropout and before it, and passes the first on.

    Returns:
        a `keras.Model` from `(ids, targets)`, `(B, T)` each, to the nats of each target, `(B, T)`; from `(ids, targets,
        resets)` where the model takes resets.
    """
    projection = model.get_layer("logits")
    targets = keras.Input(batch_shape=model.inputs[0].shape, dtype="int32", name="targets")
    cross_entropy = ProjectionCrossEntropy(projection, product_dtype, name="cross_entropy")
    hidden = projection.input
    if regularization is not None:
        hidden = regularization([hidden, stateful_layers(model)[-1].output])
    nats = cross_entropy([hidden, targets])
    return keras.Model([model.inputs[0], targets, *model.inputs[1:]], nats, name="language_model_nats")


def stateful_layers(model: keras.Model) -> list[StatefulRecurrent]:
    """The recurrent layers of a model, lowest first."""
    return [layer for layer in model.layers if isinstance(layer, StatefulRecurrent)]


def reset_states(model: keras.Model) -> None:
    """Zero the state of every recurrent layer of a model."""
    for layer in stateful_layers(model):
        layer.reset_states()
