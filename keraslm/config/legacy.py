"""Configurations written by earlier versions: `config.json` of format 1 and model files of format 3."""

from __future__ import annotations

import dataclasses
from typing import Any

_RENAMED = {"documents": "context", "shuffle_documents": "shuffle"}
_CONTEXTS = {"none": "document", "line": "sentence", "blank-line": "paragraph"}


def modernized(section: dict[str, Any], part: Any) -> dict[str, Any]:
    """The fields of a section under their present names, with None in place of `""`, `0`, `-1` and `[]`.

    Args:
        section: of a configuration; one in the present form is returned unchanged.
        part: the dataclass of the section.

    Example:
        >>> modernized({"documents": "line", "cache": ""}, DataConfig)
        {'context': 'sentence', 'cache': None}
    """
    fields = {f.name: f for f in dataclasses.fields(part)}
    found: dict[str, Any] = {}
    for old, value in section.items():
        name = _RENAMED.get(old, old)
        if old == "checkpoint_every" and "checkpoint_windows" in fields:
            found |= _checkpoints(value)
        elif name not in fields:
            found[name] = value
        elif _means_none(fields[name], value):
            found[name] = None
        elif old == "documents":
            found[name] = _CONTEXTS.get(value, value) if isinstance(value, str) else value
        elif old in ("layer_units", "cutoffs") and isinstance(value, str):
            found[name] = [_number(item) for item in value.split(",")]
        else:
            found[name] = value
    return found


def _means_none(f: dataclasses.Field[Any], value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and value == 0:
        return bool(f.metadata["zero_is_none"])
    return (f.default is None and value in ("", [])) or (f.name == "last_dropout" and number and value == -1)


def _checkpoints(every: Any) -> dict[str, Any]:
    """`checkpoint_every` was "10m" for minutes or "500w" for windows."""
    if isinstance(every, str) and every.endswith("w"):
        return {"checkpoint_minutes": None, "checkpoint_windows": _number(every[:-1])}
    try:
        return {"checkpoint_minutes": float(every.removesuffix("m"))}
    except (AttributeError, ValueError):
        return {"checkpoint_minutes": every}


def _number(text: str) -> int | str:
    return int(text) if text.strip().isdecimal() and len(text) < 19 else text
