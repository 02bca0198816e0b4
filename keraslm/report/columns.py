"""What the columns of all tables of scores share: units, decimals and missing values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from keraslm.report.options import ScoreOptions, lag_of

Columns = dict[str, Sequence[Any]]

DECIMALS = {
    **dict.fromkeys(("logprob", "surprisal", "entropy", "entropy_reduction"), 6),
    **dict.fromkeys(("bits_per_character", "bits_per_byte", "bits_per_token", "frequency"), 6),
    "perplexity": 4,
}
_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def logarithms(logprobs: Any, options: ScoreOptions) -> Columns:
    return {  # adding 0.0 turns -0.0, the surprisal of a certain token, into 0.0
        "logprob": (logprobs * options.logprob_scale + 0.0).tolist(),
        "surprisal": (-logprobs * options.surprisal_scale + 0.0).tolist(),
    }


def cell_of(name: str, missing: str = "nan") -> Callable[[Any], str]:
    """A function from the values of a column to cells of a table; `missing` stands for a number that does not exist."""
    own, lag = lag_of(name)
    if own not in DECIMALS and not lag:
        return (lambda word: word.translate(_ESCAPES)) if name == "word" else str
    write = f"{{:.{DECIMALS.get(own, 0)}f}}".format  # lengths have no decimals
    return write if missing == "nan" else lambda value: missing if math.isnan(value) else write(value)


def plain(name: str, value: Any) -> Any:
    """A value of a column for JSON: None for a number that does not exist."""
    if name == "oov":
        return bool(value)
    if not isinstance(value, float):
        return value
    return round(value, DECIMALS.get(lag_of(name)[0], 6)) if math.isfinite(value) else None
