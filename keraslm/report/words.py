"""Columns of words and of regions, with the values of the words before: the tables of reading studies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.report.columns import Columns, logarithms
from keraslm.report.options import LAGGED, ScoreOptions, lag_of
from keraslm.scoring.measures import LineScore
from keraslm.scoring.words import WordScore, span_scores, word_scores
from keraslm.text.frequencies import read_frequencies
from keraslm.text.regions import Regions
from keraslm.text.tokenizer import EOS, Tokenizer


def word_columns(
    lines: Sequence[LineScore], tokenizer: Tokenizer, options: ScoreOptions, regions: Regions | None = None
) -> Columns:
    """The words of a text of one or more lines, and the end of each line."""
    scored = [(line, word_scores(line, tokenizer)) for line in lines]
    columns = _common(scored, options)
    names = [word.word for _, words in scored for word in words]
    columns |= {"word_id": range(1, len(names) + 1), "word": names}
    if regions:
        columns["region"] = [regions.name_at(start) for start in columns["start"]]
    if options.frequencies and any(lag_of(name)[0] == "frequency" for name in options.shown):
        frequencies = read_frequencies(options.frequencies)
        columns["frequency"] = [frequencies.of(name) for name in names]
    return _with_lags(columns, options)


def region_columns(line: LineScore, tokenizer: Tokenizer, options: ScoreOptions, regions: Regions) -> Columns:
    """The regions of a line, and its end."""
    found = span_scores(line, tokenizer, regions.spans(line.text))
    names = [*regions.names, *[EOS] * line.eos]
    columns = _common([(line, found)], options)
    columns |= {"region_id": range(1, len(found) + 1), "region": names, "text": [each.word for each in found]}
    return _with_lags(columns, options)


def _common(scored: Sequence[tuple[LineScore, list[WordScore]]], options: ScoreOptions) -> Columns:
    words = [word for _, words in scored for word in words]
    places, before = [], 0
    for line, own in scored:
        places += [(before + word.begin, before + word.end) for word in own]
        before += len(line.text) + 1
    columns: Columns = {
        "tokens": [last - first for first, last in (word.tokens for word in words)],
        "oov": [int(word.oov) for word in words],
        "start": [start for start, _ in places],
        "end": [end for _, end in places],
        "length": [len(word.word) if word.begin < word.end else 0 for word in words],
        **logarithms(np.array([word.logprob for word in words]), options),
    }
    for name, kind in (("entropy", "entropies"), ("entropy_reduction", "entropy_reductions")):
        if options.needs_distributions:
            sums = [_sum(getattr(line, kind), *word.tokens) for line, own in scored for word in own]
            columns[name] = (np.array(sums) * options.surprisal_scale).tolist()
    return columns


def _sum(values: NDArray[np.float64], first: int, last: int) -> float:
    return math.fsum(values[first:last])


def _with_lags(columns: Columns, options: ScoreOptions) -> Columns:
    """Add the columns of words before; at the start of a text they have no value."""
    for name in options.shown:
        own, lag = lag_of(name)
        if lag and own in LAGGED:
            values: list[Any] = list(columns[own])
            columns[name] = ([math.nan] * lag + values)[: len(values)]
    return columns
