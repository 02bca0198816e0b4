"""Scores as columns, which `pandas.DataFrame` and `polars.DataFrame` take as they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from keraslm import arguments
from keraslm.config import Context, StrPath
from keraslm.perplexity import Base
from keraslm.report.columns import DECIMALS, plain
from keraslm.report.options import ScoreOptions, Spaces, Unk, lag_of
from keraslm.report.scored import scored_lines
from keraslm.report.tables import line_columns
from keraslm.scoring.batching import Line
from keraslm.scoring.conditional import without_end
from keraslm.scoring.scorer import Scorer

_TEXTS = {"token", "word"}


def table(
    scorer: Scorer,
    texts: Iterable[Line],
    level: Literal["token", "word", "sentence"] = "word",
    columns: Sequence[str] | None = None,
    base: Base | None = None,
    context: Context = "sentence",
    unk: Unk = "include",
    spaces: Spaces = "before",
    eos: bool = True,
    frequencies: StrPath | None = None,
) -> dict[str, Any]:
    """Score lines, and return the columns of `keraslm score --level ... --format jsonl`, with the same values.

    Args:
        texts: lines, with or without their line ends; None marks the end of a file.
        level: one row per `"token"`, `"word"` or `"sentence"` (line).
        columns, base, context, unk, spaces, eos, frequencies: as for `ScoreOptions`.

    Returns:
        The columns by name, in order: a list of strings for tokens and words, otherwise a NumPy array of integers,
        floats or, for `oov`, bools. A number that does not exist, `null` in JSON, is NaN.

    Raises:
        UsageError: an unknown level or column, or values that contradict each other.
        ArgumentTypeError: `texts` are not strings.

    Example:
        >>> pandas.DataFrame(keraslm.table(scorer, ["the cat sat"], columns=["word", "surprisal"]))
            word  surprisal
        0    the   2.807355
        1    cat   2.392317
        2    sat   3.392317
        3  <eos>   4.392317
    """
    arguments.instance(scorer, Scorer, "scorer", "a Scorer")
    arguments.choice(level, "level", ("token", "word", "sentence"))
    chosen = None if columns is None else tuple(arguments.texts(columns, "columns"))
    counts = None if frequencies is None else arguments.path(frequencies, "frequencies")
    options = ScoreOptions(level, "jsonl", chosen, base, unk, context, spaces=spaces, eos=eos, frequencies=counts)
    named = arguments.each(texts, "texts", "strings")
    lines = (None if line is None else arguments.text(line, place) for line, place in named)
    found: dict[str, list[Any]] = {name: [] for name in options.shown}
    scored = scored_lines(scorer, lines, options, options.needs_distributions)
    ended = scored if options.eos else map(without_end, scored)
    for part in line_columns(ended, scorer.tokenizer, options):
        for name, values in found.items():
            values += [plain(name, value) for value in part[name]]
    return {name: _column(name, values) for name, values in found.items()}


def _column(name: str, values: list[Any]) -> Any:
    if name in _TEXTS:
        return values
    if name == "oov":
        return np.array(values, np.bool_)
    own, lag = lag_of(name)
    if lag or own in DECIMALS:
        return np.array([math.nan if value is None else value for value in values], np.float64)
    return np.array(values, np.int64)
