"""Devices on JAX: one computation for all of them, divided by rows through `keras.distribution`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import jax
import keras
import numpy as np
from jax._src import distributed  # its store of keys has no public name
from jax.experimental import multihost_utils
from numpy.typing import NDArray

from keraslm.errors import ConfigError
from keraslm.layers.recurrent import STATES
from keraslm.system.ranks import Ranks
from keraslm.training.devices import Devices, ends_with_others

DAY = 24 * 60 * 60 * 1000  # milliseconds


class RowsOnDevices(keras.distribution.DataParallel):
    """Data parallelism in which each device keeps the states of its rows; weights are copied to every device."""

    def get_variable_layout(self, variable: keras.Variable) -> keras.distribution.TensorLayout:
        if variable.name not in STATES or variable.trainable:
            return super().get_variable_layout(variable)
        axes = [None] * (len(variable.shape) - 2) + [self.batch_dim_name, None]  # `(rows, H)` or `(parts, rows, H)`
        return keras.distribution.TensorLayout(axes, self.device_mesh)


_shared = count(1)  # of the values that this process has shared, over all its trainings: a key is used once


class JaxDevices(Devices):
    def __init__(self, devices: list[jax.Device]):
        self.count, self.process, self.processes = len(devices), jax.process_index(), jax.process_count()
        names = [f"{device.platform}:{device.id}" for device in devices]
        self._distribution = RowsOnDevices(devices=names, auto_shard_dataset=False)

    @contextmanager
    def scope(self) -> Iterator[None]:
        with self._distribution.scope(), ends_with_others("gloo", "Gloo", "NCCL", "coordination"):
            yield

    def read(self, variable: keras.Variable, of_rows: bool = False) -> NDArray[Any]:
        value = variable.value
        if of_rows and self.processes > 1:
            value = multihost_utils.process_allgather(value, tiled=True)
        return np.array(value)

    def any(self, flag: bool) -> bool:
        return flag if self.processes == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())

    def share(self, value: Any = None) -> Any:
        """Through JAX's coordination service: a collective operation would fail if the others wait for long."""
        if self.processes == 1:
            return value
        key = f"keraslm/{next(_shared)}"
        client: Any = distributed.global_state.client
        if self.leads:
            client.key_value_set(key, json.dumps(value))
        return json.loads(client.blocking_key_value_get(key, DAY))


def start(devices: int | None, ranks: Ranks | None) -> JaxDevices:
    found = jax.devices()
    wanted = devices or len(found)  # several processes use all of theirs
    if wanted > len(found) or (jax.process_count() > 1 and wanted != len(found)):
        names = ", ".join(f"{device.platform}:{device.id}" for device in found)
        raise ConfigError(f"`devices` is {wanted}, but JAX has {len(found)}: {names}.")
    return JaxDevices(found[:wanted])
