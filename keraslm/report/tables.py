"""Scores as a table with one row per token, word or line, separated by tabs or commas, or as JSON lines.

`sentence_id` is the number of the line over all files, from 1; `token_id` and `word_id` are numbers within the line.
Numbers have six decimals, perplexities four; a number that does not exist is `nan`, in JSON `null`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from keraslm.perplexity import TextCost
from keraslm.report.columns import Columns, cell_of, logarithms, plain
from keraslm.report.options import ScoreOptions
from keraslm.report.words import region_columns, word_columns
from keraslm.scoring.conditional import token_spans
from keraslm.scoring.measures import LineScore
from keraslm.text.regions import Regions
from keraslm.text.rows import row_writer
from keraslm.text.tokenizer import Tokenizer

_AT_ONCE = 1 << 14  # tokens of a line that are formatted together


def table(lines: Iterable[LineScore], tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[str]:
    """The rows of a table, after a header unless they are JSON; `lines` have the distributions that columns need."""
    if options.format != "jsonl":
        yield row_writer(options.format)(options.shown)
    rows = json_rows if options.format == "jsonl" else partial(_cells, row_writer(options.format))
    for columns in line_columns(lines, tokenizer, options):
        yield from rows(columns, options.shown)


def line_columns(lines: Iterable[LineScore], tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[Columns]:
    """All columns of lines, numbered from 1, in parts of some rows; numbers are not rounded."""
    for number, line in enumerate(lines, 1):
        for columns in columns_of([line], tokenizer, options):
            (some, *_) = columns.values()
            columns["sentence_id"] = [number] * len(some)
            yield columns


def columns_of(
    lines: Sequence[LineScore], tokenizer: Tokenizer, options: ScoreOptions, regions: Regions | None = None
) -> Iterator[Columns]:
    """The columns of a text of one or more lines, in parts that follow each other."""
    if options.level == "token":
        yield from _tokens(lines, tokenizer, options)
    elif options.level == "word":
        yield word_columns(lines, tokenizer, options, regions)
    elif options.level == "region" and regions:
        yield region_columns(lines[0], tokenizer, options, regions)
    else:
        yield _sentence(lines, options)


def _tokens(lines: Sequence[LineScore], tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[Columns]:
    before = characters = 0
    for line in lines:
        spans = token_spans(line, tokenizer) + characters if {"start", "end"} & {*options.shown} else None
        for start in range(0, len(line.ids), _AT_ONCE):
            place = slice(start, start + _AT_ONCE)
            part = line.part(place)
            columns: Columns = {
                "token_id": range(before + start + 1, before + start + len(part.ids) + 1),
                "token": tokenizer.tokens(part.ids),
                "id": part.ids.tolist(),
                "oov": part.oov.astype(int).tolist(),
                **logarithms(part.logprobs, options),
            }
            if part.ranks is not None and part.entropies is not None and part.entropy_reductions is not None:
                columns["rank"] = part.ranks.tolist()
                columns["entropy"] = (part.entropies * options.surprisal_scale).tolist()
                columns["entropy_reduction"] = (part.entropy_reductions * options.surprisal_scale).tolist()
            if spans is not None:
                columns["start"], columns["end"] = spans[place].T.tolist()
            yield columns
        before, characters = before + len(line.ids), characters + len(line.text) + 1


def _sentence(lines: Sequence[LineScore], options: ScoreOptions) -> Columns:
    cost = sum((line.cost for line in lines), TextCost())
    names = ("words", "characters", "bytes", "perplexity", "bits_per_token", "bits_per_character", "bits_per_byte")
    return {
        **{name: [getattr(cost, name)] for name in names},
        "tokens": [cost.predicted],
        "oovs": [cost.oovs],
        **logarithms(np.array([-cost.nats]), options),
    }


def _cells(write: Callable[[Iterable[str]], str], columns: Columns, shown: Sequence[str]) -> Iterator[str]:
    return map(write, cell_rows(columns, shown))


def cell_rows(columns: Columns, shown: Sequence[str], missing: str = "nan") -> Iterator[tuple[str, ...]]:
    """The cells of each row; `missing` stands for a number that does not exist."""
    return zip(*(map(cell_of(name, missing), columns[name]) for name in shown), strict=True)


def plain_rows(columns: Columns, shown: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The values of each row, for JSON."""
    for row in zip(*(columns[name] for name in shown), strict=True):
        yield dict(zip(shown, map(plain, shown, row), strict=True))


def json_rows(columns: Columns, shown: Sequence[str]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) for row in plain_rows(columns, shown))
