"""The network: embedding -> dropout -> LSTM stack, dropout after each -> projection to the vocabulary."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keraslm.clusters import adaptive_shapes
from keraslm.config import ModelConfig
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm.layers.cross_entropy import ProjectionCrossEntropy
from keraslm.layers.dropout import Dropout
from keraslm.layers.embedding import Embedding
from keraslm.layers.lstm import StatefulLSTM
from keraslm.layers.sampled import SampledSoftmax


@keras.saving.register_keras_serializable(package="keraslm")
class SeededUniform(keras.initializers.Initializer):
    """Uniform in [-scale, scale], drawn by NumPy, so that one seed gives the same weights on every backend.

    Args:
        scale: bound of the interval.
        seed: of the run.
        name: of the weight; two names give independent draws.

    Example:
        >>> SeededUniform(0.1, seed=0, name="lstm_0/kernel")((2, 3)).shape
        (2, 3)
    """

    def __init__(self, scale: float, seed: int, name: str):
        self.scale, self.seed, self.name = scale, seed, name

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        generator = np.random.default_rng([self.seed, zlib.crc32(self.name.encode())])
        values = generator.uniform(-self.scale, self.scale, shape).astype(np.float32)
        return keras.ops.convert_to_tensor(values, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "seed": self.seed, "name": self.name}


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
        a `keras.Model` from token ids `(B, T)` to logits `(B, T, V)`, T free. Layers are named `embedding`,
        `embedding_dropout`, `lstm_0`, `output_dropout_0`, `lstm_1`, ..., `logits`; a dropout layer is there only where
        its rate is above 0.

    Example:
        >>> model = build_model(ModelConfig(), vocab_size=10000, batch_size=20)
        >>> model.count_params() - 2 * 2 * 20 * 200       # without h and c of two layers
        4651600
    """

    def uniform(name: str) -> SeededUniform:
        return SeededUniform(config.init_scale, seed, name)

    def dropout(x: Any, rate: float, name: str) -> Any:
        return Dropout(rate, seed=_seed_of(seed, name), name=name)(x) if rate else x

    ids = keras.Input(batch_shape=(batch_size, None), dtype="int32", name="ids")
    starts = keras.Input(batch_shape=(batch_size, None), dtype="bool", name="resets") if resets else None
    x = Embedding(
        vocab_size, config.embedding_size, embeddings_initializer=uniform("embedding/embeddings"), name="embedding"
    )(ids)
    x = dropout(x, config.embedding_dropout, "embedding_dropout")  # [B, T, D]
    for number in range(config.num_layers):
        name = f"lstm_{number}"
        x = StatefulLSTM(
            config.units,
            forget_bias=config.forget_bias,
            recurrent_dropout=config.recurrent_dropout,
            kernel_initializer=uniform(f"{name}/kernel"),
            recurrent_initializer=uniform(f"{name}/recurrent_kernel"),
            seed=_seed_of(seed, name),
            product_dtype=product_dtype,
            name=name,
        )(x, resets=starts)
        x = dropout(x, config.output_dropout, f"output_dropout_{number}")  # [B, T, H]
    logits = _projection(config, vocab_size, uniform, seed)(x)
    return keras.Model([ids, starts] if resets else ids, logits, name="language_model")  # [B, T, V]


def _projection(
    config: ModelConfig, vocab_size: int, uniform: Callable[[str], SeededUniform], seed: int
) -> keras.layers.Layer:
    """The layer `logits`: its weights are those of `keraslm.weights.weight_shapes`."""
    if config.softmax == "adaptive":
        shapes = adaptive_shapes(config.units, config.cluster_ends, vocab_size)
        initializers = {name: uniform(f"logits/{name}") for name, shape in shapes.items() if len(shape) > 1}
        return AdaptiveSoftmax(vocab_size, config.cluster_ends, initializers, name="logits")
    if config.softmax == "sampled":
        return SampledSoftmax(
            vocab_size, config.num_sampled, uniform("logits/kernel"), seed=_seed_of(seed, "logits"), name="logits"
        )
    return keras.layers.Dense(vocab_size, kernel_initializer=uniform("logits/kernel"), name="logits")


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


def stateful_layers(model: keras.Model) -> list[StatefulLSTM]:
    """The LSTM layers of a model, lowest first."""
    return [layer for layer in model.layers if isinstance(layer, StatefulLSTM)]


def reset_states(model: keras.Model) -> None:
    """Zero the state of every LSTM layer of a model."""
    for layer in stateful_layers(model):
        layer.reset_states()


def _seed_of(seed: int, name: str) -> int:
    return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF
