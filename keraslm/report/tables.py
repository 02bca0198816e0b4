"""Scores as a table, one row a token, a word or a line, tab-separated or as JSON lines.

Tables have `sentence_id`, the line's number from 1 over all files, and `token_id` or `word_id`, the number in its line
from 1. Numbers have six decimals, perplexities four; a number that does not exist is `nan`, and `null` in JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keraslm.perplexity import perplexity
from keraslm.report.options import ScoreOptions
from keraslm.scoring.measures import LineScore
from keraslm.scoring.words import word_scores
from keraslm.text.tokenizer import Tokenizer

Columns = dict[str, Sequence[Any]]

_DECIMALS = {
    **dict.fromkeys(("logprob", "surprisal", "entropy", "entropy_reduction"), 6),
    **dict.fromkeys(("bits_per_character", "bits_per_byte"), 6),
    "perplexity": 4,
}
_AT_ONCE = 1 << 14  # tokens of a line whose rows are made at once
_CELL = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def table(lines: Iterable[LineScore], tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[str]:
    """The rows of a table, for TSV after a header.

    Args:
        lines: scored with the distributions that the columns need.
        tokenizer: of the model.
        options: level, format, columns, base and what to do with OOVs.

    Example:
        >>> list(table(lines, tokenizer, ScoreOptions(columns=("token", "surprisal"))))
        ['token\\tsurprisal', 'the\\t2.807355', ...]
    """
    parts = {"token": _tokens, "word": _words, "sentence": _sentence}[options.level]
    rows = _tsv if options.format == "tsv" else _json
    if options.format == "tsv":
        yield "\t".join(options.shown)
    for number, line in enumerate(lines, 1):
        for columns in parts(number, line, tokenizer, options):
            yield from rows(columns, options.shown)


def _tokens(number: int, line: LineScore, tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[Columns]:
    """A line of any length, some tokens at a time."""
    spans = tokenizer.offsets(line.text) if {"start", "end"} & {*options.shown} else None
    for start in range(0, len(line.ids), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        columns = _token_columns(number, start, line.part(part), tokenizer, options)
        if spans is not None:
            columns["start"], columns["end"] = spans[part].T.tolist()
        yield columns


def _token_columns(number: int, start: int, line: LineScore, tokenizer: Tokenizer, options: ScoreOptions) -> Columns:
    count = len(line.ids)
    logprobs = np.where(line.oov, np.nan, line.logprobs) if options.unk == "exclude" else line.logprobs
    columns: Columns = {
        "sentence_id": [number] * count,
        "token_id": range(start + 1, start + count + 1),
        "token": tokenizer.tokens(line.ids),
        "id": line.ids.tolist(),
        "oov": line.oov.astype(int).tolist(),
        **_logarithms(logprobs, options),
    }
    if line.ranks is not None and line.entropies is not None and line.entropy_reductions is not None:
        columns["rank"] = line.ranks.tolist()
        columns["entropy"] = (line.entropies * options.surprisal_scale).tolist()
        columns["entropy_reduction"] = (line.entropy_reductions * options.surprisal_scale).tolist()
    return columns


def _words(number: int, line: LineScore, tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[Columns]:
    words = word_scores(line, tokenizer)
    logprobs = [math.nan if word.oov and options.unk == "exclude" else word.logprob for word in words]
    yield {
        "sentence_id": [number] * len(words),
        "word_id": range(1, len(words) + 1),
        "word": [word.word for word in words],
        "tokens": [last - first for first, last in (word.tokens for word in words)],
        "oov": [int(word.oov) for word in words],
        "start": [word.begin for word in words],
        "end": [word.end for word in words],
        **_logarithms(np.array(logprobs), options),
    }


def _sentence(number: int, line: LineScore, _: Tokenizer, options: ScoreOptions) -> Iterator[Columns]:
    scored = line.logprobs[~line.oov] if options.unk == "exclude" else line.logprobs
    logprob = math.fsum(scored)
    bits = -logprob / math.log(2)
    yield {
        "sentence_id": [number],
        "tokens": [len(scored)],
        "oovs": [int(line.oov.sum())],
        "words": [line.words],
        "characters": [line.characters],
        "bytes": [line.bytes],
        "perplexity": [perplexity(-logprob, len(scored))],
        "bits_per_character": [bits / line.characters],
        "bits_per_byte": [bits / line.bytes],
        **_logarithms(np.array([logprob]), options),
    }


def _logarithms(logprobs: Any, options: ScoreOptions) -> Columns:
    # 0.0 is added because a certain token has no surprisal of -0.
    return {
        "logprob": (logprobs * options.logprob_scale + 0.0).tolist(),
        "surprisal": (-logprobs * options.surprisal_scale + 0.0).tolist(),
    }


def _tsv(columns: Columns, shown: Sequence[str]) -> Iterator[str]:
    cells = [map(_format(name), columns[name]) for name in shown]
    return map("\t".join, zip(*cells, strict=True))


def _format(name: str) -> Callable[[Any], str]:
    if name in _DECIMALS:
        return f"{{:.{_DECIMALS[name]}f}}".format
    return _word if name == "word" else str


def _word(text: str) -> str:
    """A word as a cell; other kinds of white space than the three below are none to a reader of TSV."""
    return "".join(_CELL.get(c, c) for c in text) if set(text) & _CELL.keys() else text


def _json(columns: Columns, shown: Sequence[str]) -> Iterator[str]:
    for row in zip(*(columns[name] for name in shown), strict=True):
        yield json.dumps(dict(zip(shown, map(_plain, shown, row), strict=True)), ensure_ascii=False)


def _plain(name: str, value: Any) -> Any:
    if name == "oov":
        return bool(value)
    if not isinstance(value, float):
        return value
    return round(value, _DECIMALS[name]) if math.isfinite(value) else None
