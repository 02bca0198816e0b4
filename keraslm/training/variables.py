"""Every variable of a training by a name that is the same in each process and on each backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.errors import RunError


def synchronise(model: keras.Model) -> None:
    """Give variables their values: on JAX they are empty while an epoch runs, until Keras takes them up again."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def training_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of a compiled and built model, its optimizer and its metrics.

    Keras numbers seed generators through a process, so a variable of the model is called by the layer that owns it:
    `model/lstm_0/kernel`, `model/lstm_0/h`, `model/output_dropout_0/seed_generator_state`; the others by their role:
    `optimizer/iteration`, `metrics/perplexity/nats`.

    Raises:
        ValueError: when two would have the same name.

    Example:
        >>> sorted(training_variables(model))[:2]
        ['metrics/loss/count', 'metrics/loss/total']
    """
    named: dict[str, keras.Variable] = {}
    owners: dict[int, tuple[keras.layers.Layer, keras.Variable]] = {}
    for layer in model.layers:
        for variable in layer.variables:
            owners.setdefault(id(variable), (layer, variable))  # a tied softmax has those of the embedding, too
    owned = [(f"model/{_within(layer, v)}", v) for layer, v in owners.values()]
    of_optimizer = [(f"optimizer/{v.path.partition('/')[2]}", v) for v in model.optimizer.variables]
    of_metrics = [(f"metrics/{v.path}", v) for v in model.metrics_variables]
    for name, variable in (*owned, *of_optimizer, *of_metrics):
        if named.setdefault(name, variable) is not variable:
            raise ValueError(f"two variables are called {name}")
    return named


def _within(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    """`lstm_0/kernel`; a seed generator's path has a number where the name of its layer belongs."""
    owner, _, rest = variable.path.rpartition("/")
    return f"{layer.name}/{rest}" if owner.startswith("seed_generator") else str(variable.path)


def read_variables(variables: Mapping[str, keras.Variable]) -> dict[str, NDArray[Any]]:
    """Copies of values, whatever becomes of the variables."""
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in variables.items()}


def assign_variables(variables: Mapping[str, keras.Variable], values: Mapping[str, NDArray[Any]], where: str) -> None:
    """Give each variable its value, in its own type: Keras counts steps in int32 here and int64 there.

    Raises:
        RunError: a value is missing, left over, of another shape, or does not fit the variable's type.
    """
    if values.keys() != variables.keys():
        odd = sorted(values.keys() ^ variables.keys())
        raise RunError(f"{where}: does not fit the model; missing or unexpected variables: {', '.join(odd)}.")
    cast = {}
    for name, variable in variables.items():
        value = values[name]
        if value.shape != tuple(variable.shape):
            raise RunError(f"{where}: {name} has shape {value.shape}, but the model's is {tuple(variable.shape)}.")
        cast[name] = value.astype(keras.backend.standardize_dtype(variable.dtype))
        if not np.array_equal(cast[name], value, equal_nan=value.dtype.kind == "f"):
            raise RunError(f"{where}: {name} is {value.dtype} and does not fit the model's {variable.dtype}.")
    for name, variable in variables.items():
        variable.assign(cast[name])
