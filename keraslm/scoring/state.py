"""The state of recurrent layers between calls: values that are passed and copied, never changed in place.

Dimensions: `L` layers, `N` rows, `H` units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.errors import InputTypeError, UsageError, shown

Floats32 = NDArray[np.float32]
Layout = tuple[np.dtype[Any], tuple[int, ...]]  # type and shape of an array
FLOAT32 = np.dtype(np.float32)


class State(ABC):
    """What a model remembers of one or more texts so far. Can be compared, hashed and pickled.

    Example:
        >>> state = session.zero_state(3)
        >>> state.select([0, 0, 2]) == state
        True
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def select(self, rows: Any) -> State:
        """The state of some rows, in the given order: indices, which may repeat, or a slice."""

    @staticmethod
    @abstractmethod
    def join(states: Sequence[Any]) -> State:
        """The rows of several states of the same model, one after the other."""

    @abstractmethod
    def key(self) -> tuple[Any, ...]:
        """Shapes and bytes of all numbers: equal for equal states, and ordered."""

    def __eq__(self, other: object) -> bool:
        return self.key() == other.key() if isinstance(other, State) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key())


class ModelState(State):
    """The state of one model: `h` and `c`, float32 `(L, N, H)`."""

    def __init__(self, h: Floats32, c: Floats32):
        self.h, self.c = h, c

    def __len__(self) -> int:
        return self.layout[0][1][1]

    def __repr__(self) -> str:
        layers, rows, units = self.layout[0][1]
        return f"{type(self).__name__}(layers={layers}, rows={rows}, units={units})"

    @property
    def layout(self) -> tuple[Layout, Layout]:
        """Type and shape of `h` and of `c`."""
        return (self.h.dtype, self.h.shape), (self.c.dtype, self.c.shape)

    def select(self, rows: Any) -> State:
        if isinstance(rows, slice) and rows.indices(len(self)) == (0, len(self), 1):
            return self
        try:
            return ModelState(self.h[:, rows], self.c[:, rows])
        except (IndexError, TypeError, ValueError) as error:
            raise InputTypeError(
                f"`rows` is {shown(rows)}, but indices below {len(self)} or a slice are expected."
            ) from error

    @staticmethod
    def join(states: Sequence[Any]) -> State:
        states = [
            arguments.instance(state, ModelState, place, "a state")
            for state, place in arguments.each(states, "states", "states")
        ]
        if len({state.h.shape[::2] for state in states}) != 1:
            raise UsageError("`states` must be one or more states of the same model.")
        if len(states) == 1:
            return states[0]
        return ModelState(np.concatenate([s.h for s in states], axis=1), np.concatenate([s.c for s in states], axis=1))

    def key(self) -> tuple[Any, ...]:
        return self.h.shape, (self.h + 0).tobytes(), (self.c + 0).tobytes()  # adding 0 turns -0.0 into 0.0


class DeviceState(ModelState):
    """A state in the memory of a device: `OrtValue`s of h and c, which are copied to the host when first used."""

    def __init__(self, *values: Any):
        self.values = values

    @cached_property
    def h(self) -> Floats32:  # type: ignore[override]
        return np.asarray(self.values[0].numpy())

    @cached_property
    def c(self) -> Floats32:  # type: ignore[override]
        return np.asarray(self.values[1].numpy())

    @property
    def layout(self) -> tuple[Layout, Layout]:
        h, c = (tuple(map(int, value.shape())) for value in self.values)
        return (FLOAT32, h), (FLOAT32, c)

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelState, (self.h, self.c)
