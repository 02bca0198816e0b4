"""A hypothesis of an n-best list, as it is read from a row, and the checks that rows of all formats share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from keraslm.errors import TextError, shown


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis of an utterance, with its first-pass scores (larger is better).

    `names` are those of the scores; None if the file does not name them. `row` is its cells, or JSON objects, in the
    file; `where` is file and line, for messages. The text is scored after `prefix`, which may have several lines.
    """

    utterance: str
    text: str
    scores: tuple[float, ...] = ()
    names: tuple[str, ...] | None = None
    row: Any = None
    where: str = "hypothesis"
    prefix: str = ""


Utterance = list[Hypothesis]


def finite(value: Any, where: str) -> float:
    """A score as a number; a `TextError` if it is none."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise TextError(f"{where}: {shown(value)} is not a finite number, as a score must be.")
    return number


def check(right: bool, message: str) -> None:
    """Raise a `TextError` unless a row is right."""
    if not right:
        raise TextError(message)
