"""Checks of the arguments of public functions: an error names the argument, the position in it and what was found."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from keraslm.errors import ArgumentTypeError, UsageError, emptiness, shown


def instance(value: Any, kind: Any, name: str, expected: str) -> Any:
    """The value, if it is an instance of `kind`, or of one of several.

    Example:
        >>> instance(None, str, "text", "a string")
        ArgumentTypeError: `text` is None, but a string is expected.
    """
    if not isinstance(value, kind):
        raise ArgumentTypeError(f"`{name}` is {shown(value)}, but {expected} is expected.")
    return value


def text(value: Any, name: str) -> str:
    return str(instance(value, str, name, "a string"))


def switch(value: Any, name: str) -> bool:
    return bool(instance(value, bool, name, "True or False"))


def each(values: Any, name: str, items: str) -> Iterator[tuple[Any, str]]:
    """Each item of an iterable, and its name such as `texts[2]`; no string, dictionary or table of several columns."""
    single = isinstance(values, str | bytes | bytearray | os.PathLike | Mapping)
    if single or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        raise ArgumentTypeError(f"`{name}` is {shown(values)}, but an iterable of {items} is expected.")
    return ((value, f"{name}[{number}]") for number, value in enumerate(values))


def texts(values: Any, name: str) -> Iterator[str]:
    """Each string of an iterable. The type of the iterable is checked at once, that of a string when it is reached."""
    return (text(value, place) for value, place in each(values, name, "strings"))


def path(value: Any, name: str) -> str:
    return text(os.fspath(instance(value, str | os.PathLike, name, "a path")), name)


def paths(values: Any, name: str) -> list[str]:
    """One path, or each path of an iterable."""
    if isinstance(values, str | os.PathLike):
        return [path(values, name)]
    return [path(value, place) for value, place in each(values, name, "paths")]


def integer(value: Any, name: str, least: int) -> int:
    """An integer that is not below `least`; True and False are no integers."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentTypeError(f"`{name}` is {shown(value)}, but an integer is expected.")
    if value < least:
        raise UsageError(f"`{name}` is {shown(value)}, but must be {f'at least {least}' if least else '0 or more'}.")
    return int(value)


def number(value: Any, name: str) -> float:
    """A number, which may be NaN or infinite; True and False are no numbers."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(f"`{name}` is {shown(value)}, but a number is expected.")
    return float(value)


def choice(value: Any, name: str, known: Iterable[str]) -> str:
    """One of several names."""
    known = tuple(known)
    kind = UsageError if isinstance(value, str) else ArgumentTypeError
    if kind is ArgumentTypeError or value not in known:
        raise kind(f"`{name}` is {shown(value)}, but must be one of {', '.join(known)}.")
    return str(value)


def not_empty(**arguments: Any) -> None:
    """Raise a `UsageError` for a path or a list of paths that was given and selects nothing.

    Example:
        >>> not_empty(valid=None, train=[])
        keraslm.errors.UsageError: `train` is empty: []. Perhaps a pattern matched no file, or a variable is not set.
    """
    for name, value in arguments.items():
        if message := emptiness(name, value):
            raise UsageError(message)
