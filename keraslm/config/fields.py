"""What all parts of the configuration share: a field with its sentence, and the checks of values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import field
from typing import Any

from keraslm.errors import ConfigError, shown


def option(default: Any, text: str) -> Any:
    """A field with its default and its sentence, unit and source."""
    return field(default=default, metadata={"help": text})


def check(part: object, name: str, holds: bool, expected: str) -> None:
    """Raise `ConfigError` unless a field's value is what was expected of it."""
    if not holds:
        raise ConfigError(f"{name} is {shown(getattr(part, name))}, but must be {expected}.")


def check_rates(part: object, *names: str) -> None:
    """Refuse what is no rate of dropout."""
    for name in names:
        check(part, name, 0.0 <= getattr(part, name) < 1.0, "a rate of at least 0 and below 1")


def whole_numbers(text: str) -> list[int]:
    """Numbers of a list such as `2000,20000`; what is not one is left out.

    Example:
        >>> whole_numbers("2000, 20000")
        [2000, 20000]
    """
    parts = map(str.strip, text.split(","))
    return [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 19]


def check_types(part: Any) -> None:
    """Refuse a value of another type than its default's, NaN, infinity and ints beyond 64 bits, too; an int will do for
    a float."""
    for f in dataclasses.fields(part):
        value: Any = getattr(part, f.name)
        kind: type = type(f.default)
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            raise ConfigError(f"{f.name} is an integer of {value.bit_length()} bits, but must fit 64.")
        if kind is tuple and isinstance(value, str | list):  # one path, or JSON's list of them
            value = (value,) if isinstance(value, str) and value else tuple(value)
            object.__setattr__(part, f.name, value)
        if kind is float and type(value) is int:
            object.__setattr__(part, f.name, float(value))
        elif (
            type(value) is not kind
            or (isinstance(value, tuple) and not all(isinstance(item, str) for item in value))
            or (isinstance(value, float) and not math.isfinite(value))
        ):
            raise ConfigError(f"{f.name} is {shown(value)}, but must be of type {kind.__name__} and finite.")
