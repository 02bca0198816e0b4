"""Devices on TensorFlow: the replicas of `tf.distribute.MirroredStrategy`, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keraslm.errors import ConfigError
from keraslm.system.ranks import Ranks
from keraslm.training.devices import Devices


class TensorFlowDevices(Devices):
    def __init__(self, names: list[str]):
        self.count = self.replicas = len(names)
        on_gpus = "GPU" in names[0]
        # The collectives that TensorFlow would use between CPUs serve one strategy per process.
        reduction = None if on_gpus else tf.distribute.ReductionToOneDevice()
        self._strategy = tf.distribute.MirroredStrategy(names, reduction)

    def divide(self, batch_size: int, parts: int) -> None:
        if parts > 1:
            raise ConfigError(
                "`accumulate` needs one device on TensorFlow, where replicas cannot be added up within a condition. "
                "Leave out `accumulate` or `devices`, or use JAX or torch."
            )
        super().divide(batch_size, parts)

    @contextmanager
    def scope(self) -> Iterator[None]:
        with self._strategy.scope():
            yield

    def read(self, variable: keras.Variable, of_rows: bool = False) -> NDArray[Any]:
        if not of_rows:
            return super().read(variable)
        return np.concatenate([value.numpy() for value in self._strategy.experimental_local_results(variable.value)])

    def assign(self, variable: keras.Variable, value: NDArray[Any], of_rows: bool = False) -> None:
        if not of_rows:
            variable.assign(value)
            return
        own = self._strategy.experimental_local_results(variable.value)
        for replica, rows in zip(own, np.split(value, self.count), strict=True):
            replica.assign(rows)


def start(devices: int | None, ranks: Ranks | None) -> TensorFlowDevices:
    if ranks is not None:
        raise ConfigError(
            "TensorFlow trains in one process: Keras 3 does not run `tf.distribute.MultiWorkerMirroredStrategy` under "
            "`fit()`. Use several devices of one machine, or JAX or torch."
        )
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if devices is not None and devices > len(found):
        names = ", ".join(device.name for device in found)
        raise ConfigError(f"`devices` is {devices}, but TensorFlow has {len(found)}: {names}.")
    return TensorFlowDevices([device.name for device in found[:devices]])
