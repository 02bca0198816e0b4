"""Scores as a table with one row per token, word or line, separated by tabs or commas, or as JSON lines.

`sentence_id` is the number of the line over all files, from 1; `token_id` and `word_id` are numbers within the line.
Numbers have six decimals, perplexities four; a number that does not exist is `nan`, in JSON `null`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from keraslm.report.options import ScoreOptions
from keraslm.scoring.measures import LineScore
from keraslm.scoring.words import word_scores
from keraslm.text.rows import row_writer
from keraslm.text.tokenizer import Tokenizer

Columns = dict[str, Sequence[Any]]

DECIMALS = {
    **dict.fromkeys(("logprob", "surprisal", "entropy", "entropy_reduction"), 6),
    **dict.fromkeys(("bits_per_character", "bits_per_byte"), 6),
    "perplexity": 4,
}
_AT_ONCE = 1 << 14  # tokens of a line that are formatted together
_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def table(lines: Iterable[LineScore], tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[str]:
    """The rows of a table, after a header unless they are JSON; `lines` have the distributions that columns need."""
    rows = _json if options.format == "jsonl" else partial(_cells, row_writer(options.format))
    if options.format != "jsonl":
        yield row_writer(options.format)(options.shown)
    for columns in columns_of(lines, tokenizer, options):
        yield from rows(columns, options.shown)


def columns_of(lines: Iterable[LineScore], tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[Columns]:
    """All columns of the table, in parts of some rows; numbers are not rounded."""
    parts = {"token": _tokens, "word": _words, "sentence": _sentence}[options.level]
    for number, line in enumerate(lines, 1):
        for columns in parts(line, tokenizer, options):
            (some, *_) = columns.values()
            columns["sentence_id"] = [number] * len(some)
            yield columns


def _tokens(line: LineScore, tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[Columns]:
    spans = tokenizer.offsets(line.text) if {"start", "end"} & {*options.shown} else None
    for start in range(0, len(line.ids), _AT_ONCE):
        place = slice(start, start + _AT_ONCE)
        part = line.part(place)
        columns: Columns = {
            "token_id": range(start + 1, start + len(part.ids) + 1),
            "token": tokenizer.tokens(part.ids),
            "id": part.ids.tolist(),
            "oov": part.oov.astype(int).tolist(),
            **_logarithms(part.logprobs, options),
        }
        if part.ranks is not None and part.entropies is not None and part.entropy_reductions is not None:
            columns["rank"] = part.ranks.tolist()
            columns["entropy"] = (part.entropies * options.surprisal_scale).tolist()
            columns["entropy_reduction"] = (part.entropy_reductions * options.surprisal_scale).tolist()
        if spans is not None:
            columns["start"], columns["end"] = spans[place].T.tolist()
        yield columns


def _words(line: LineScore, tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[Columns]:
    words = word_scores(line, tokenizer)
    yield {
        "word_id": range(1, len(words) + 1),
        "word": [word.word for word in words],
        "tokens": [last - first for first, last in (word.tokens for word in words)],
        "oov": [int(word.oov) for word in words],
        "start": [word.begin for word in words],
        "end": [word.end for word in words],
        **_logarithms(np.array([word.logprob for word in words]), options),
    }


def _sentence(line: LineScore, _: Tokenizer, options: ScoreOptions) -> Iterator[Columns]:
    cost = line.cost
    names = ("words", "characters", "bytes", "perplexity", "bits_per_character", "bits_per_byte")
    yield {
        **{name: [getattr(cost, name)] for name in names},
        "tokens": [cost.predicted],
        "oovs": [cost.oovs],
        **_logarithms(np.array([line.logprob]), options),
    }


def _logarithms(logprobs: Any, options: ScoreOptions) -> Columns:
    return {  # adding 0.0 turns -0.0, the surprisal of a certain token, into 0.0
        "logprob": (logprobs * options.logprob_scale + 0.0).tolist(),
        "surprisal": (-logprobs * options.surprisal_scale + 0.0).tolist(),
    }


def _cells(write: Callable[[Iterable[str]], str], columns: Columns, shown: Sequence[str]) -> Iterator[str]:
    cells = [map(_format(name), columns[name]) for name in shown]
    return map(write, zip(*cells, strict=True))


def _format(name: str) -> Callable[[Any], str]:
    if name in DECIMALS:
        return f"{{:.{DECIMALS[name]}f}}".format
    return (lambda word: word.translate(_ESCAPES)) if name == "word" else str


def _json(columns: Columns, shown: Sequence[str]) -> Iterator[str]:
    for row in zip(*(columns[name] for name in shown), strict=True):
        yield json.dumps(dict(zip(shown, map(plain, shown, row), strict=True)), ensure_ascii=False)


def plain(name: str, value: Any) -> Any:
    """The value of a column as JSON has it: rounded, and None for a number that does not exist."""
    if name == "oov":
        return bool(value)
    if not isinstance(value, float):
        return value
    return round(value, DECIMALS[name]) if math.isfinite(value) else None
