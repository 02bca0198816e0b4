"""n-best lists: the utterances of a file, one at a time, with the rows of their hypotheses.

    tsv     utterance <tab> score <tab> ... <tab> text      the same number of scores in each row; also csv and raw,
                                                            see `keraslm.text.rows`
    kaldi   utterance-k words of the hypothesis             scores in separate files: utterance-k number
    jsonl   {"utterance": "u1", "hypotheses": [{"text": "the cat", "scores": {"acoustic": -12.5}}]}
            {"utterance": "u1", "text": "the cat", "scores": {"acoustic": -12.5}}

In JSON Lines, an utterance or a hypothesis may have a `"prefix"`, after which its text is scored. The rows of an
utterance must follow each other. A text may be empty, and hypotheses may be equal.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Any

from keraslm import arguments
from keraslm.errors import TextError, UsageError, shown
from keraslm.text.files import TextFile
from keraslm.text.pieces import one_line
from keraslm.text.rows import ROW_FORMATS, cells_of, json_object, row_writer

FORMATS = (*ROW_FORMATS, "kaldi", "jsonl")
LM = "lm_logprob"


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis of an utterance, with its first-pass scores (larger is better) and their names, if any.

    `row` is its cells, or JSON objects, in the file; `where` is file and line, for messages. The text is scored after
    `prefix`, which may have several lines.
    """

    utterance: str
    text: str
    scores: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    row: Any = None
    where: str = "hypothesis"
    prefix: str = ""


Utterance = list[Hypothesis]


def read_nbest(
    file: TextFile, format: str = "tsv", score_columns: int | None = None, scores: Sequence[TextFile] = ()
) -> Iterator[Utterance]:
    """The utterances of a file, in order.

    Args:
        format: `"tsv"`, `"csv"`, `"raw"`, `"kaldi"` or `"jsonl"`.
        score_columns: number of scores per row of a table; None means that of the first row.
        scores: files of costs for `"kaldi"`, with the same keys in the same order as `file`.
    """
    check_options(format, score_columns, scores)
    if format == "kaldi":
        return _utterances(_kaldi_rows(file, scores))
    return _utterances(_json_rows(file) if format == "jsonl" else _table_rows(file, score_columns, format))


def check_options(format: Any, score_columns: Any, scores: Sequence[Any]) -> None:
    """Raise a `UsageError` for options of `read_nbest` that are wrong or do not combine."""
    arguments.choice(format, "format", FORMATS)
    if score_columns is not None:
        arguments.integer(score_columns, "score_columns", 0)
    if scores and format != "kaldi":
        raise UsageError('`scores` needs `format="kaldi"`; the other formats hold their scores in the rows.')
    if score_columns is not None and format not in ROW_FORMATS:
        raise UsageError(f'`score_columns` needs `format="tsv"`, but the format is {format}.')


def _utterances(rows: Iterable[Hypothesis]) -> Iterator[Utterance]:
    seen: set[str] = set()
    for name, group in groupby(rows, key=lambda row: row.utterance):
        utterance = list(group)
        where = utterance[0].where
        _check(name not in seen, f"{where}: utterance {name!r} comes a second time; its rows must follow each other.")
        seen.add(name)
        yield utterance


def _table_rows(file: TextFile, columns: int | None, format: str) -> Iterator[Hypothesis]:
    expected = None if columns is None else columns + 2
    names: tuple[str, ...] = ()
    sign = "comma" if format == "csv" else "tab"
    for number, line in enumerate(file, 1):
        where = f"{file.name}:{number}"
        try:
            cells = cells_of(line, format)
        except csv.Error as error:
            raise TextError(f"{where}: not a row of CSV ({error}).") from error
        fault = f"no utterance before the first {sign}" if len(cells) > 1 else f"no {sign}" if line else "a blank line"
        valid = len(cells) > 1 and cells[0] != ""
        _check(valid, f"{where}: {fault}. A row is: utterance, scores, text, with a {sign} between them.")
        expected = expected or len(cells)
        wanted = f"{expected} are expected: utterance, {expected - 2} scores, text"
        like = ", as in the first row" if columns is None else ""
        _check(len(cells) == expected, f"{where}: {len(cells)} columns, but {wanted}{like}.")
        if number == 1 and (cells[0], cells[-1]) == ("utterance", "text"):
            names = tuple(cells[1:-1])
            continue
        scores = tuple(_number(cell, where) for cell in cells[1:-1])
        yield Hypothesis(cells[0], cells[-1], scores, names, cells, where)


def _kaldi_rows(file: TextFile, scores: Sequence[TextFile]) -> Iterator[Hypothesis]:
    names = tuple(score.name for score in scores)
    for number, lines in enumerate(zip_longest(file, *scores), 1):
        where, key, text, costs = f"{file.name}:{number}", "", "", []
        sources = list(zip((file, *scores), lines, strict=True))
        longer = next(source.name for source, line in sources if line is not None)
        for source, line in sources:
            ending = f"ends before line {number} of {longer}. All files must have the same keys."
            _check(line is not None, f"{source.name}: {ending}")
            (own, rest), at = key_and_rest(line), f"{source.name}:{number}"
            _check(own != "", f"{at}: a blank line. A row is a key and its words or its cost.")
            if source is file:
                key, text = own, rest
                continue
            _check(own == key, f"{at}: key {own!r}, but {where} has {key!r}.")
            costs.append(_number(rest, at))
        utterance, hyphen, place = key.rpartition("-")
        right = bool(hyphen and utterance) and place.isascii() and place.isdigit()
        _check(right, f"{where}: key {key!r} is not an utterance, a hyphen and a number, as nbest-to-linear writes it.")
        yield Hypothesis(utterance, text, tuple(-cost for cost in costs), names, [key, text], where)


def key_and_rest(line: str) -> tuple[str, str]:
    """Split a line of a Kaldi text archive: `"utt-1\\tthe cat"` -> `("utt-1", "the cat")`."""
    key, _, rest = line.strip(" \t").replace("\t", " ", 1).partition(" ")
    return key, rest.strip(" \t")


def read_keyed(file: TextFile) -> dict[str, str]:
    """The text of each utterance, such as its reference: rows of `utterance <blank or tab> text`; it may be empty."""
    found: dict[str, str] = {}
    for number, line in enumerate(file, 1):
        name, text = key_and_rest(line)
        if not name or name in found:
            fault = f"utterance {name!r} comes a second time" if name else "a blank line"
            raise TextError(f"{file.name}:{number}: {fault}. A row is an utterance and its words.")
        found[name] = text
    return found


def _json_rows(file: TextFile) -> Iterator[Hypothesis]:
    names: tuple[str, ...] | None = None
    for number, line in enumerate(file, 1):
        where = f"{file.name}:{number}"
        record = json_object(line, where)
        name, nested = record.get("utterance"), record.get("hypotheses", [record])
        _check(isinstance(name, str), f'{where}: no "utterance" with its name as a string.')
        if not isinstance(nested, list) or not nested:
            raise TextError(f'{where}: "hypotheses" is not a list with at least one hypothesis.')
        for place, each in enumerate(nested, 1):
            at = where if each is record else f"{where}: hypothesis {place}"
            _check(isinstance(each, dict) and isinstance(each.get("text"), str), f'{at}: no "text" with a string.')
            one_line(each["text"], at)
            scores = each.get("scores", {})
            _check(isinstance(scores, dict), f'{at}: "scores" is not an object of names and numbers.')
            names = tuple(scores) if names is None else names
            found, first = (", ".join(each) or "none" for each in (scores, names))
            _check({*scores} == {*names}, f"{at}: scores {found}, but the first hypothesis has {first}.")
            values = tuple(_number(scores[name], f"{at}: score {name!r}") for name in names)
            prefix = each.get("prefix", record.get("prefix", ""))
            _check(isinstance(prefix, str), f'{at}: "prefix" is {shown(prefix)}, but a string is expected.')
            yield Hypothesis(record["utterance"], each["text"], values, names, (each, record), at, prefix)


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise TextError(f"{where}: {shown(value)} is not a finite number, as a score must be.")
    return number


def _check(right: bool, message: str) -> None:
    if not right:
        raise TextError(message)


def scored_rows(utterance: Utterance, scores: Sequence[float], format: str, name: str = LM) -> Iterator[str]:
    """The rows of an utterance with one more score per row; a `TextError` if it has a score of this name.

    In a table the score comes before the text; with `"kaldi"` a row is a key and a cost, the negated score; with
    `"jsonl"` the score is added to `scores` under `name`.
    """
    first = utterance[0]
    free = format == "kaldi" or name not in first.names
    _check(free, f"{first.where}: a score {name} already exists; choose a different `name`.")
    records: list[Any] = []
    for hypothesis, score in zip(utterance, scores, strict=True):
        if format == "jsonl":
            each, record = hypothesis.row
            each["scores"] = each.get("scores", {}) | {name: round(score, 6)}
            if not records or records[-1] is not record:
                records.append(record)
        elif format == "kaldi":
            yield f"{hypothesis.row[0]} {-score:.6f}"
        else:
            yield row_writer(format)([*hypothesis.row[:-1], f"{score:.6f}", hypothesis.row[-1]])
    try:
        yield from [json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records]
    except (ValueError, RecursionError) as error:
        raise TextError(f"{first.where}: the row has a value that JSON cannot represent ({error}).") from error


def best_row(hypothesis: Hypothesis, total: float, format: str) -> str:
    """The row of the best hypothesis: utterance and text; with `"jsonl"` also the total."""
    if format == "jsonl":
        chosen = {"utterance": hypothesis.utterance, "text": hypothesis.text, "total": round(total, 6)}
        return json.dumps(chosen, ensure_ascii=False)
    cells = (hypothesis.utterance, hypothesis.text)
    return " ".join(cells) if format == "kaldi" else row_writer(format)(cells)
