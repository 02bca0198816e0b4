"""The devices and processes of a training: what the callbacks need to know of them, and to ask of them.

The three backends plug in by a subclass each, in `devices_jax`, `devices_tensorflow` and `devices_torch`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.errors import RunError
from keraslm.system.ranks import Ranks
from keraslm.training.rows import Rows


class Devices:
    """One device of one process.

    Attributes:
        count: number of devices, over all processes.
        replicas: number of replicas that each compute their own rows; 1 on JAX, which divides one computation.
        process: the number of this process, from 0.
        processes: number of processes.
        rows: the rows of a window on these devices; None: every step trains all rows.
    """

    count = 1
    replicas = 1
    process = 0
    processes = 1
    rows: Rows | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes, prints and decides."""
        return self.process == 0

    def divide(self, batch_size: int, parts: int) -> None:
        """Divide the rows of a window; a ConfigError if that is impossible."""
        self.rows = Rows(batch_size, self.count, parts, self.processes, self.process)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Build and train a model on these devices within the block."""
        yield

    def read(self, variable: keras.Variable, of_rows: bool = False) -> NDArray[Any]:
        """The value of a variable; that of all rows, in the order of the devices, if each device has its own."""
        return np.array(keras.ops.convert_to_numpy(variable))

    def assign(self, variable: keras.Variable, value: NDArray[Any], of_rows: bool = False) -> None:
        """The inverse of `read`."""
        variable.assign(value)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process, in each of them; every process must ask at the same time."""
        return flag

    def share(self, value: Any = None) -> Any:
        """The value that the first process gives, in each of them: JSON's kinds."""
        return value


@contextmanager
def ends_with_others(*words: str) -> Iterator[None]:
    """Within the block, an error of the backend with one of these words means that another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in words):
            raise
        reason = " ".join(str(error).split())[:120]
        raise RunError(
            f"Another process of the training has ended; see its message ({reason}). The last checkpoint is intact: "
            "start all processes again to resume."
        ) from error


def start_devices(devices: int | None, ranks: Ranks | None) -> Devices:
    """The devices of a training on the current backend.

    Args:
        devices: their number over all processes; None: one, or one per process.
        ranks: the processes, if there are several.

    Raises:
        ConfigError: there are not so many devices, or the backend cannot use them together.
    """
    if ranks is None and devices in (None, 1):
        return Devices()
    module = importlib.import_module(f"keraslm.training.devices_{keras.backend.backend()}")
    started: Devices = module.start(devices, ranks)
    return started
