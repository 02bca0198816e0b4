"""Which rows of a window are trained where: the one place that decides it, for every backend.

A row of the stream carries its state from window to window. Its state stays right only if the row stays where it is:
on the same device in every window, for the whole training. Samplers that deal out windows or batches instead carry the
state of one text into another, and nothing fails.

The rows of a window are cut into equal shares in order: first by device, then, with `accumulate`, each device's rows by
part. With `batch_size=8` on 2 devices, in 2 parts:

    row       0     1     2     3     4     5     6     7
    device    0     0     0     0     1     1     1     1
    part      0     0     1     1     0     0     1     1

A step trains one part on every device at once; a window takes as many steps as there are parts. A checkpoint holds the
state of all rows in the order of the stream, so that a training can be resumed on a different number of devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import ConfigError


@dataclass(frozen=True)
class Rows:
    """The rows of a window, their devices and their parts.

    Attributes:
        batch_size: B, rows of a window.
        devices: number of devices, over all processes.
        parts: steps per window.
        processes: number of processes, each with the same number of devices.
        process: the number of this one, from 0.

    Example:
        >>> Rows(8, devices=2, parts=2).of_step(np.arange(8), 1)
        array([2, 3, 6, 7])
    """

    batch_size: int
    devices: int = 1
    parts: int = 1
    processes: int = 1
    process: int = 0

    def __post_init__(self) -> None:
        if self.batch_size % (self.devices * self.parts):
            parts = f" with `accumulate`, {self.parts}," if self.parts > 1 else ""
            raise ConfigError(
                f"`batch_size` is {self.batch_size}, which {self.devices} devices{parts} do not divide: every share of "
                f"a window must have the same number of rows. Use a multiple of {self.devices * self.parts}."
            )

    def of_step(self, values: NDArray[Any], part: int) -> NDArray[Any]:
        """The rows, the first axis of an array, that this process trains in a step."""
        if self.devices == self.parts == 1:
            return values
        own = self.devices // self.processes
        shares = values.reshape(self.devices, self.parts, -1, *values.shape[1:])
        chosen = shares[self.process * own : (self.process + 1) * own, part]
        return chosen.reshape(-1, *values.shape[1:])

    def in_order(self, state: NDArray[Any]) -> NDArray[Any]:
        """The states `(B, H)` in the order of the rows, from those of all devices, `(rows, H)` or `(P, rows, H)`."""
        shares = state.reshape(self.parts, self.devices, -1, state.shape[-1])
        return shares.swapaxes(0, 1).reshape(self.batch_size, -1)

    def by_device(self, state: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `in_order`: `(P, B / P, H)`, or `(B, H)` if there is one part."""
        shares = state.reshape(self.devices, self.parts, -1, state.shape[-1]).swapaxes(0, 1)
        whole = np.ascontiguousarray(shares).reshape(self.parts, self.batch_size // self.parts, -1)
        return whole if self.parts > 1 else whole[0]
