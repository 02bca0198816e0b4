"""What a network remembers of the texts in front of it: a value, passed and copied, never changed in place.

Letters: `L` layers, `N` rows, `H` units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class State:
    """The state of the recurrent layers, one column a row of text.

    Two states are equal when every number is, and equal states have equal hashes, so that a state can be the key of a
    dictionary.

    Attributes:
        h, c: float32 arrays of shape `(L, N, H)`.

    Example:
        >>> state = session.zero_state(3)
        >>> state.select([0, 0, 2]) == state
        True
    """

    h: Floats
    c: Floats

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.shapes[0][1])

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of `h` and of `c`."""
        return self.h.shape, self.c.shape

    @property
    def kinds(self) -> tuple[str, str]:
        """Types of the numbers of `h` and of `c`; float32 is right."""
        return str(self.h.dtype), str(self.c.dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return np.array_equal(self.h, other.h) and np.array_equal(self.c, other.c)

    def __hash__(self) -> int:
        # Adding 0 turns -0.0, which equals 0.0, into it.
        return hash((self.h.shape, (self.h + 0).tobytes(), (self.c + 0).tobytes()))

    def select(self, rows: Any) -> State:
        """Some rows, in the order given; the same one more than once, if need be.

        Args:
            rows: indices, or a slice.
        """
        if isinstance(rows, slice) and rows.indices(len(self)) == (0, len(self), 1):
            return self
        return State(self.h[:, rows], self.c[:, rows])

    @staticmethod
    def join(states: Sequence[State]) -> State:
        """The rows of several states side by side."""
        if len(states) == 1:
            return states[0]
        return State(np.concatenate([s.h for s in states], axis=1), np.concatenate([s.c for s in states], axis=1))
