"""Values of a graph before it is run: their shapes, and the few elements that other shapes hang on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring.onnx_messages import Node

MAX_RANK = 6
MAX_KNOWN = 64  # values of a tensor that is followed


class MisfitError(Exception):
    """Shapes that do not go together, or a shape that cannot be told before the graph is run."""


@dataclass(frozen=True)
class Value:
    """What is known of a value before the graph is run.

    Attributes:
        shape: sizes of its axes.
        known: its elements, where they are few and follow from shapes and constants.
        loose: a size, or an element, hangs on how many tokens `NonZero` finds: it is the largest that it can be.
    """

    shape: tuple[int, ...]
    known: NDArray[Any] | None = None
    loose: bool = False

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def of(known: NDArray[Any], loose: bool = False) -> Value:
    """A value with its elements, if they are few enough to be followed."""
    return Value(known.shape, known if known.size <= MAX_KNOWN else None, loose)


def attribute(node: Node, name: str, default: Any = None) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return {2: attribute.i, 4: attribute.t, 7: attribute.ints}[attribute.type]
    return default


def numbers(value: Value, what: str, loose: bool = False) -> list[int]:
    """Elements of a vector or scalar that a shape hangs on."""
    if value.known is None or (value.loose and not loose) or value.known.dtype.kind not in "iu":
        raise MisfitError(f"{what} cannot be told from the shapes of the inputs")
    return [int(x) for x in value.known.reshape(-1)]


def axis_of(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise MisfitError(f"axis {axis} of {rank}")
    return axis % rank


def broadcast(values: list[Value]) -> tuple[int, ...]:
    rank = max(len(value.shape) for value in values)
    shape = []
    for sizes in zip(*((1,) * (rank - len(value.shape)) + value.shape for value in values), strict=True):
        size = next((size for size in sizes if size != 1), 1)
        if any(other not in (1, size) for other in sizes):
            raise MisfitError(f"sizes {', '.join(map(str, sizes))} side by side")
        shape.append(size)
    return tuple(shape)


ABSENT = Value((), np.zeros((), np.bool_))  # an input that is left out
