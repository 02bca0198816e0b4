"""Every variable of a training run under a name that is the same in each process and on each backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.errors import RunError
from keraslm.network.metrics import Mean
from keraslm.network.model import stateful_layers
from keraslm.training.devices import Devices


def synchronise(model: keras.Model) -> None:
    """Assign the current values to the variables: on JAX they are empty while an epoch runs."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def mean_loss(model: keras.Model) -> float:
    """The mean loss of the windows of the epoch so far in float64; the logs of `fit()` are float32.

    On JAX, call `synchronise` before.
    """
    tracker = model.metrics[0]
    assert isinstance(tracker, Mean)
    return tracker.mean()


def training_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of a compiled and built model, its optimizer and its metrics, by name.

    Names are such as `model/lstm_0/h`, `optimizer/iteration`, `metrics/perplexity/nats`. A seed generator, whose path
    contains a number that depends on the process, is named after its layer. Sums of gradients, which are zero between
    windows, are left out.
    """
    owners: dict[int, tuple[keras.layers.Layer, keras.Variable]] = {}
    for layer in model.layers:
        for variable in layer.variables:
            owners.setdefault(id(variable), (layer, variable))  # a tied softmax also lists those of the embedding
    pairs = [(f"model/{_within(layer, v)}", v) for layer, v in owners.values()]
    optimizer = model.optimizer
    sums = {id(v) for v in (*optimizer.sums, optimizer.part)}
    pairs += [(f"optimizer/{v.path.partition('/')[2]}", v) for v in optimizer.variables if id(v) not in sums]
    pairs += [(f"metrics/{v.path}", v) for v in model.metrics_variables]
    named: dict[str, keras.Variable] = {}
    for name, variable in pairs:
        if named.setdefault(name, variable) is not variable:
            raise ValueError(f"two variables have the name {name}")
    return named


def _within(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    owner, _, rest = variable.path.rpartition("/")
    return f"{layer.name}/{rest}" if owner.startswith("seed_generator") else str(variable.path)


def read_variables(variables: Mapping[str, keras.Variable]) -> dict[str, NDArray[Any]]:
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in variables.items()}


def read_training(model: keras.Model, devices: Devices) -> dict[str, NDArray[Any]]:
    """The values of all variables of a training, with the states in the order of the rows."""
    states, rows = _states(model), devices.rows
    return {
        name: rows.in_order(devices.read(v, of_rows=True)) if rows and id(v) in states else devices.read(v)
        for name, v in training_variables(model).items()
    }


def assign_training(model: keras.Model, values: Mapping[str, NDArray[Any]], where: str, devices: Devices) -> None:
    """Assign the values that `read_training` has read, on the same or a different number of devices.

    Each value gets the type of its variable: Keras counts steps in int32 or int64, by backend. The digits of a sum
    beyond float32 are missing in old checkpoints; they are then 0.
    """
    variables, states, rows = training_variables(model), _states(model), devices.rows
    added = {name: np.zeros((), np.float32) for name in variables if name.endswith("_low")}
    values = {**added, **values}
    if values.keys() != variables.keys():
        odd = sorted(values.keys() ^ variables.keys())
        raise RunError(f"{where}: does not match the model; missing or unexpected variables: {', '.join(odd)}.")
    cast = {}
    for name, variable in variables.items():
        value, expected = values[name], tuple(variable.shape)
        if rows and id(variable) in states:
            expected = (rows.batch_size, expected[-1])
        if value.shape != expected:
            raise RunError(f"{where}: {name} has shape {value.shape}, but the model needs {expected}.")
        cast[name] = value.astype(keras.backend.standardize_dtype(variable.dtype))
        if not np.array_equal(cast[name], value, equal_nan=value.dtype.kind == "f"):
            raise RunError(f"{where}: {name} is {value.dtype} and does not fit {variable.dtype}.")
    for name, variable in variables.items():
        if rows and id(variable) in states:
            devices.assign(variable, rows.by_device(cast[name]), of_rows=True)
        else:
            devices.assign(variable, cast[name])


def _states(model: keras.Model) -> set[int]:
    """The identities of the variables that hold a state of each row."""
    return {id(variable) for layer in stateful_layers(model) for variable in layer.state_variables}
