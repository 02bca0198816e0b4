"""The one place that chooses the recurrent layer: by the cell of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keraslm.config import ModelConfig
from keraslm.config.shapes import mogrifier_shapes
from keraslm.layers.gru import StatefulGRU
from keraslm.layers.kernels.dispatch import describe_lstm
from keraslm.layers.lstm import StatefulLSTM
from keraslm.layers.mogrifier import StatefulMogrifierLSTM
from keraslm.layers.recurrent import StatefulRecurrent
from keraslm.layers.rnn import StatefulRNN


def recurrent_layer(
    config: ModelConfig,
    number: int,
    initializer: Callable[[str], Any],
    seed: int,
    product_dtype: str = "float32",
) -> StatefulRecurrent:
    """The recurrent layer of a network: its weights are those of `keraslm.config.shapes.cell_shapes`.

    Args:
        config: cell, units, dropout.
        number: of the layer, the lowest is 0; its name is the cell and the number, e.g. `gru_0`.
        initializer: of a weight of this model, by its whole name, e.g. `gru_0/kernel`.
        seed: of the dropout masks.
        product_dtype: as in `StatefulLSTM`, which alone has a choice.
    """
    name, units = f"{config.cell}_{number}", config.sizes[number]
    shared: dict[str, Any] = {
        "recurrent_dropout": config.recurrent_dropout,
        "dropconnect": config.dropconnect,
        "kernel_initializer": initializer(f"{name}/kernel"),
        "recurrent_initializer": initializer(f"{name}/recurrent_kernel"),
        "seed": seed,
        "name": name,
    }
    if config.cell == "gru":
        return StatefulGRU(units, **shared)
    if config.cell == "rnn":
        return StatefulRNN(units, **shared)
    if not config.mogrifier_rounds:
        return StatefulLSTM(units, forget_bias=config.forget_bias, product_dtype=product_dtype, **shared)
    rounds, rank = config.mogrifier_rounds, config.mogrifier_rank
    return StatefulMogrifierLSTM(
        units,
        rounds,
        rank,
        config.forget_bias,
        {weight: initializer(f"{name}/{weight}") for weight in mogrifier_shapes(units, units, rounds, rank)},
        **shared,
    )


def describe_cell(config: ModelConfig, product_dtype: str = "float32") -> str:
    """Describe the implementation of the cell that a training run will use."""
    if config.cell == "lstm" and not config.mogrifier_rounds:
        return describe_lstm(config.recurrent_dropout, product_dtype)
    kind = f"Mogrifier with {config.mogrifier_rounds} rounds, " if config.mogrifier_rounds else ""
    return f"{kind}{keras.backend.backend()} loop with automatic differentiation, matrix products in {product_dtype}"
