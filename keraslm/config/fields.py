"""Fields with a help sentence, and the checks of their values."""

from __future__ import annotations

import codecs
import dataclasses
import math
import os
from dataclasses import field
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from keraslm.errors import ConfigError, emptiness, shown

# Encodings of Python that are not for texts.
_SPECIAL = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape")
_SEVERAL = {int: "integers", float: "finite numbers", str: "strings"}
_NAMES = {int: "an integer", float: "a finite number", bool: "True or False", str: "a string"}


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path with the user's home folder for a leading `~`, which a shell leaves in `--run=~/runs`."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (Path.expanduser fails for an unknown user)


def check_encoding(name: str) -> None:
    """Raise `ConfigError` unless Python knows an encoding of texts by this name."""
    try:
        found: Any = codecs.lookup(name)
        known = found._is_text_encoding and found.name not in _SPECIAL
    except (LookupError, ValueError, TypeError):
        known = False
    if not known:
        raise ConfigError(
            f"`encoding` is {shown(name)}, but must be the name of an encoding that Python knows, such as utf-8, "
            "latin-1, cp1252, gb18030 or utf-16."
        )


def is_utf8_name(encoding: str) -> bool:
    """Whether a known encoding is UTF-8, under any of its names."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def option(default: Any, text: str, zero_is_none: bool = False) -> Any:
    """A field with its default and its help text: meaning, unit and source.

    Args:
        default: of the field.
        text: for the documentation and the command line.
        zero_is_none: the command line writes None as 0; so did runs of format 1.
    """
    return field(default=default, metadata={"help": text, "zero_is_none": zero_is_none})


def check(part: object, name: str, holds: bool, expected: str) -> None:
    """Raise `ConfigError` with the value of a field unless a condition holds."""
    if not holds:
        raise ConfigError(f"`{name}` is {shown(getattr(part, name))}, but must be {expected}.")


def check_rates(part: object, *names: str) -> None:
    """Check that fields are dropout rates, or None."""
    for name in names:
        rate = getattr(part, name)
        check(part, name, rate is None or 0.0 <= rate < 1.0, "a rate of at least 0 and below 1")


def check_at_least(part: object, least: float, *names: str) -> None:
    """Check that fields are None or not below a number."""
    for name in names:
        value = getattr(part, name)
        check(part, name, value is None or value >= least, f"at least {least}")


def is_at_least(value: Any, kind: Any, least: float) -> bool:
    """Whether a value is None, or a finite number of a kind of at least `least`; True and False are no numbers."""
    if isinstance(value, bool):
        return False
    return value is None or (isinstance(value, kind) and math.isfinite(value) and bool(value >= least))


def check_types(part: Any) -> None:
    """Check each field of a frozen dataclass against its annotation, and bring it into that type.

    An integer is accepted for a float, a path for a string, and a list or a single path for a tuple of strings.

    Raises:
        ConfigError: a value of a different type, NaN, infinity, an integer of more than 64 bits, an empty string or
            an empty tuple.
    """
    for name, hint in hints(part.__class__).items():
        value = _converted(name, hint, getattr(part, name))
        is_text = split_optional(hint)[0] in (str, tuple[str, ...])
        if is_text and value is not None and (message := emptiness(name, value)):
            raise ConfigError(message)
        object.__setattr__(part, name, value)


@cache
def hints(part: Any) -> dict[str, Any]:
    """The type of each field of a configuration class."""
    return {f.name: get_type_hints(part)[f.name] for f in dataclasses.fields(part)}


def split_optional(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was part of it.

    Example:
        >>> split_optional(int | None)
        (<class 'int'>, True)
    """
    if get_origin(hint) is not UnionType:
        return hint, False
    kinds = get_args(hint)
    return next(kind for kind in kinds if kind is not NoneType), NoneType in kinds


def _converted(name: str, hint: Any, value: Any) -> Any:
    kind, optional = split_optional(hint)
    if value is None and optional:
        return None
    suffix = " or None" if optional else ""
    if get_origin(kind) is Literal:
        if not (isinstance(value, str) and value in get_args(kind)):
            raise ConfigError(f"`{name}` is {shown(value)}, but must be one of {', '.join(get_args(kind))}{suffix}.")
        return value
    if get_origin(kind) is not tuple:
        return _item(name, value, value, kind, _NAMES[kind] + suffix)
    item = get_args(kind)[0]
    items = (value,) if isinstance(value, str | os.PathLike) else value
    expected = f"{_SEVERAL[item]} in a tuple{suffix}"
    if not isinstance(items, tuple | list):
        raise ConfigError(f"`{name}` is {shown(value)}, but must be {expected}.")
    return tuple(_item(name, value, each, item, expected) for each in items)


def _item(name: str, value: Any, item: Any, kind: Any, expected: str) -> Any:
    """One value of a field, or of its tuple, as the type `kind`."""
    if kind is float and type(item) is int:
        item = float(item) if abs(item) < 1 << 63 else math.inf
    if kind is str and isinstance(item, os.PathLike):
        item = os.fspath(item)
    bad = type(item) is not kind or (kind is float and not math.isfinite(item))
    if bad or (kind is int and not -(1 << 63) <= item < 1 << 63):
        raise ConfigError(f"`{name}` is {shown(value)}, but must be {expected}.")
    return item
