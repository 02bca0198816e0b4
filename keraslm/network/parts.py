"""The parts of the network that a configuration chooses: recurrent layers, the projection, and initial weights."""

from __future__ import annotations

import zlib
from typing import Any

import keras
import numpy as np

from keraslm.config import ModelConfig
from keraslm.config.shapes import mogrifier_shapes, softmax_shapes
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm.layers.cells import StatefulGRU, StatefulMogrifierLSTM, StatefulRNN
from keraslm.layers.kernels.dispatch import describe_lstm
from keraslm.layers.lstm import StatefulLSTM
from keraslm.layers.mixture import MixtureOfSoftmaxes
from keraslm.layers.projection import TiedSoftmax
from keraslm.layers.recurrent import StatefulRecurrent
from keraslm.layers.sampled import SampledSoftmax


@keras.saving.register_keras_serializable(package="keraslm")
class SeededUniform(keras.initializers.Initializer):
    """Uniform in [-scale, scale], drawn by NumPy: equal on every backend, and independent for each weight name."""

    def __init__(self, scale: float, seed: int, name: str):
        self.scale, self.seed, self.name = scale, seed, name

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        generator = np.random.default_rng([self.seed, zlib.crc32(self.name.encode())])
        values = generator.uniform(-self.scale, self.scale, shape).astype(np.float32)
        return keras.ops.convert_to_tensor(values, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "seed": self.seed, "name": self.name}


def seed_of(seed: int, name: str) -> int:
    """The seed of a layer's draws, such as dropout masks, from the seed of the run and the name of the layer."""
    return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF


def recurrent_layer(
    config: ModelConfig, number: int, seed: int = 0, product_dtype: str = "float32", parts: int = 1
) -> StatefulRecurrent:
    """Make the recurrent layer with a number, 0 for the lowest; its name is e.g. `gru_0`.

    Its weights have the shapes of `keraslm.config.shapes.cell_shapes`. Only LSTMs use `product_dtype`.
    """
    name, units = f"{config.cell}_{number}", config.sizes[number]

    def uniform(weight: str) -> SeededUniform:
        return SeededUniform(config.init_scale, seed, f"{name}/{weight}")

    shared: dict[str, Any] = {
        "recurrent_dropout": config.recurrent_dropout,
        "dropconnect": config.dropconnect,
        "kernel_initializer": uniform("kernel"),
        "recurrent_initializer": uniform("recurrent_kernel"),
        "seed": seed_of(seed, name),
        "parts": parts,
        "name": name,
    }
    if config.cell != "lstm":
        return {"gru": StatefulGRU, "rnn": StatefulRNN}[config.cell](units, **shared)
    shared["input_gate"] = config.input_gate
    if not config.mogrifier_rounds:
        return StatefulLSTM(units, forget_bias=config.forget_bias, product_dtype=product_dtype, **shared)
    rounds, rank = config.mogrifier_rounds, config.mogrifier_rank
    initializers = {weight: uniform(weight) for weight in mogrifier_shapes(units, units, rounds, rank)}
    return StatefulMogrifierLSTM(units, rounds, rank, config.forget_bias, initializers, **shared)


def describe_cell(config: ModelConfig, product_dtype: str = "float32", resets: bool = False) -> str:
    """Describe the implementation of the cell that a training run will use."""
    if config.cell == "lstm" and not config.own_step:
        return describe_lstm(config.recurrent_dropout, product_dtype, resets)
    kind = f"Mogrifier with {config.mogrifier_rounds} rounds, " if config.mogrifier_rounds else ""
    kind += "capped input gate, " if config.input_gate == "capped" else ""
    return f"{kind}{keras.backend.backend()} loop with automatic differentiation, matrix products in float32"


def projection_layer(
    config: ModelConfig, vocab_size: int, embedding: keras.layers.Embedding, seed: int = 0
) -> keras.layers.Layer:
    """Make the layer `logits`; its weights have the shapes of `keraslm.config.shapes.softmax_shapes`."""
    initializers = {
        name: SeededUniform(config.init_scale, seed, f"logits/{name}")
        for name, shape in softmax_shapes(config, vocab_size).items()
        if len(shape) > 1
    }
    shared: dict[str, Any] = {"kernel_initializers": initializers, "name": "logits"}
    if config.softmax == "adaptive":
        return AdaptiveSoftmax(vocab_size, config.cutoffs or (), **shared)
    if config.softmax == "sampled":
        return SampledSoftmax(vocab_size, config.num_sampled, seed_of(seed, "logits"), **shared)
    if config.softmax == "mixture":
        return MixtureOfSoftmaxes(
            vocab_size,
            config.num_experts,
            config.embedding_size,
            embedding if config.tie_weights else None,
            config.expert_dropout,
            config.locked_dropout,
            seed_of(seed, "logits"),
            **shared,
        )
    if config.tie_weights:
        return TiedSoftmax(embedding, name="logits")
    return keras.layers.Dense(vocab_size, kernel_initializer=initializers["kernel"], name="logits")
