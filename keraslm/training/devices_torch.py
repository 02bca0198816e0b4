"""Devices on torch: one process each, with a copy of the model for its rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from keraslm.errors import ConfigError
from keraslm.replicas.replicas_torch import together
from keraslm.system.ranks import Ranks
from keraslm.training.devices import Devices, ends_with_others


class TorchDevices(Devices):
    """The group of all processes; what is not computed on a GPU goes over gloo."""

    def __init__(self) -> None:
        self.process, self.processes = distributed.get_rank(), distributed.get_world_size()
        self.count = self.replicas = self.processes
        # Some wait while the first reads texts or writes checkpoints.
        self._group = distributed.new_group(backend="gloo", timeout=timedelta(days=1))

    @contextmanager
    def scope(self) -> Iterator[None]:
        with together(), ends_with_others("gloo", "NCCL", "c10d"):
            yield

    def read(self, variable: keras.Variable, of_rows: bool = False) -> NDArray[Any]:
        value = super().read(variable)
        if not of_rows:
            return value
        parts = [torch.empty(value.shape) for _ in range(self.processes)]
        distributed.all_gather(parts, torch.from_numpy(value), group=self._group)
        return np.concatenate([part.numpy() for part in parts], axis=-2)

    def assign(self, variable: keras.Variable, value: NDArray[Any], of_rows: bool = False) -> None:
        variable.assign(np.split(value, self.processes, axis=-2)[self.process] if of_rows else value)

    def any(self, flag: bool) -> bool:
        found = torch.tensor(int(flag))
        distributed.all_reduce(found, group=self._group)
        return bool(found)

    def share(self, value: Any = None) -> Any:
        shared = [value]
        distributed.broadcast_object_list(shared, group=self._group)
        return shared[0]


def start(devices: int | None, ranks: Ranks | None) -> TorchDevices:
    if not distributed.is_initialized():
        if ranks is None:
            raise ConfigError(
                f"`devices` is {devices}, but torch uses one process per device. Start them by torchrun: "
                f"torchrun --nproc-per-node {devices} --no-python -- keraslm train ..."
            )
        host, _, port = ranks.address.rpartition(":")
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port}
        if torch.cuda.is_available():
            torch.cuda.set_device(ranks.local_rank % torch.cuda.device_count())
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, rank=ranks.rank, world_size=ranks.size)
    if devices not in (None, distributed.get_world_size()):
        raise ConfigError(
            f"`devices` is {devices}, but there are {distributed.get_world_size()} processes, and torch uses one "
            "process per device. Leave `devices` out, or start as many processes."
        )
    return TorchDevices()
