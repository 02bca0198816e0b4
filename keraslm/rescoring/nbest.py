"""n-best lists: the utterances of a file, one at a time, each hypothesis with the row that it stands in.

    tsv     utterance <tab> score <tab> ... <tab> text      as many scores as the first row has, none too
    kaldi   utterance-k words of the hypothesis             scores in files beside it: utterance-k number
    jsonl   {"utterance": "u1", "hypotheses": [{"text": "the cat", "scores": {"acoustic": -12.5}}]}
            {"utterance": "u1", "text": "the cat", "scores": {"acoustic": -12.5}}

The rows of an utterance follow each other, and it does not come back. A text may be empty, and hypotheses may be equal.
Memory holds one utterance, and the names of those before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Any

from keraslm.errors import TextError, UsageError, shown
from keraslm.text.files import TextFile

FORMATS = ("tsv", "kaldi", "jsonl")
LM = "lm_logprob"


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis of an utterance.

    Attributes:
        utterance: its name.
        text: what may have been said.
    XX        where: file and line, for messages.
    """

    utterance: str
    text: str
    scores: tuple[float, ...]
    names: tuple[str, ...]
    row: Any
    where: str


Utterance = list[Hypothesis]


def read_nbest(
    file: TextFile, format: str = "tsv", columns: int | None = None, scores: Sequence[TextFile] = ()
) -> Iterator[Utterance]:
    """The utterances of a file, in order.

    Args:
        file: plain or compressed.
        format: `"tsv"`, `"kaldi"` or `"jsonl"`.
        columns: of scores, with `tsv`; None takes as many as the first row has.
        scores: files of scores, with `kaldi`: the keys of `file`, in its order.

    Raises:
        TextError: a row that is not what the format has, with file and line; an utterance that comes twice.
        UsageError: an unknown format, or an argument that belongs to another one.

    Example:
        >>> for utterance in read_nbest(TextFile("lists.tsv.gz")):
        ...     print(utterance[0].utterance, len(utterance))
    """
    if format not in FORMATS:
        raise UsageError(f"Unknown format {format!r}. Known are: {', '.join(FORMATS)}.")
    if scores and format != "kaldi":
        raise UsageError(f"Files of scores belong to the format kaldi; {format} holds its scores itself.")
    if columns is not None and format != "tsv":
        raise UsageError(f"A number of score columns belongs to the format tsv, not to {format}.")
    readers: dict[str, Callable[[], Iterator[Utterance]]] = {
        "tsv": lambda: _by_name(_tsv_rows(file, columns)),
        "kaldi": lambda: _by_name(_kaldi_rows(file, scores)),
        "jsonl": lambda: _by_name(_json_rows(file)),
    }
    return _once(readers[format]())


def _by_name(rows: Iterable[Hypothesis]) -> Iterator[Utterance]:
    return (list(group) for _, group in groupby(rows, key=lambda row: row.utterance))


def _once(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    seen: set[str] = set()
    for utterance in utterances:
        name, where = utterance[0].utterance, utterance[0].where
        if name in seen:
            raise TextError(
                f"{where}: utterance {name!r} comes a second time. The rows of an utterance must follow each other."
            )
        seen.add(name)
        yield utterance


def _tsv_rows(file: TextFile, columns: int | None) -> Iterator[Hypothesis]:
    expected = None if columns is None else columns + 2
    names: tuple[str, ...] = ()
    for number, line in enumerate(file, 1):
        where, cells = f"{file.name}:{number}", line.split("\t")
        if not line:
            raise TextError(f"{where}: a blank line. A row is: utterance, scores, text, with a tab between them.")
        if len(cells) < 2 or not cells[0]:
            found = "no tab" if len(cells) < 2 else "no utterance before the first tab"
            raise TextError(f"{where}: {found}. A row is: utterance, scores, text, with a tab between them.")
        if expected is None:
            expected = len(cells)
        if len(cells) != expected:
            raise TextError(
                f"{where}: {len(cells)} columns, but {expected} are expected: utterance, {expected - 2} scores, text"
                + (", as in the first row." if columns is None else ".")
            )
        if number == 1 and (cells[0], cells[-1]) == ("utterance", "text"):
            names = tuple(cells[1:-1])
            continue
        scores = tuple(_number(cell, where) for cell in cells[1:-1])
        yield Hypothesis(cells[0], cells[-1], scores, names, cells, where)


def _kaldi_rows(file: TextFile, scores: Sequence[TextFile]) -> Iterator[Hypothesis]:
    names = tuple(score.name for score in scores)
    for number, lines in enumerate(zip_longest(file, *scores), 1):
        parts: list[tuple[str, str, str]] = []
        for source, line in zip((file, *scores), lines, strict=True):
            if line is None:
                raise TextError(f"{source.name}: ends before line {number}; its keys must be those of {file.name}.")
            key, _, rest = line.strip(" \t").replace("\t", " ", 1).partition(" ")
            if not key:
                raise TextError(f"{source.name}:{number}: a blank line. A row is a key and what belongs to it.")
            if parts and key != parts[0][0]:
                raise TextError(f"{source.name}:{number}: key {key!r}, but {file.name}:{number} has {parts[0][0]!r}.")
            parts.append((key, rest.strip(" \t"), f"{source.name}:{number}"))
        key, text, where = parts[0]
        utterance, hyphen, place = key.rpartition("-")
        if not (hyphen and utterance and place.isascii() and place.isdigit()):
            raise TextError(
                f"{where}: key {key!r} is not an utterance, a hyphen and a number, as nbest-to-linear writes it."
            )
        found = tuple(-_number(cell, at) for _, cell, at in parts[1:])
        yield Hypothesis(utterance, text, found, names, [key, text], where)


def _json_rows(file: TextFile) -> Iterator[Hypothesis]:
    names: tuple[str, ...] | None = None
    for number, line in enumerate(file, 1):
        where = f"{file.name}:{number}"
        record = json_object(line, where)
        if not isinstance(record.get("utterance"), str):
            raise TextError(f'{where}: no "utterance" with its name, a text.')
        nested = record.get("hypotheses", [record])
        if not isinstance(nested, list) or not nested:
            raise TextError(f'{where}: "hypotheses" is not a list with at least one hypothesis.')
        for place, each in enumerate(nested, 1):
            at = where if each is record else f"{where}: hypothesis {place}"
            if not isinstance(each, dict) or not isinstance(each.get("text"), str):
                raise TextError(f'{at}: no "text".')
            scores = each.get("scores", {})
            if not isinstance(scores, dict):
                raise TextError(f'{at}: "scores" is not an object of names and numbers.')
            names = tuple(scores) if names is None else names
            if scores.keys() != set(names):
                raise TextError(
                    f"{at}: scores {', '.join(scores) or 'none'}, but the first hypothesis has "
                    f"{', '.join(names) or 'none'}; all must have the same."
                )
            found = tuple(_number(scores[name], f"{at}: score {name!r}") for name in names)
            yield Hypothesis(record["utterance"], each["text"], found, names, (each, record), at)


def json_object(line: str, where: str) -> dict[str, Any]:
    """The object that a line of JSONL holds.

    Raises:
        TextError: it holds none, or half of a character.
    """
    try:
        record = json.loads(line)
        if "\\u" in line:
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # a lone surrogate is a ValueError, too
        raise TextError(f"{where}: not a JSON object ({error}).") from error
    if not isinstance(record, dict):
        raise TextError(f"{where}: not a JSON object, but {shown(record)}.")
    return record


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise TextError(f"{where}: {shown(value)} is not a finite number, as a score must be.")
    return number


def scored_rows(utterance: Utterance, scores: Sequence[float], format: str, name: str = LM) -> Iterator[str]:
    """The rows of an utterance with one more score each, all else as it was.

    Args:
        utterance: as `read_nbest` gave it.
        scores: one a hypothesis.
        format: that it was read in. With `tsv` the score stands before the text; with `kaldi` the row is a key and a
            cost, the score with the other sign; with `jsonl` it is one of `scores`.
        name: of the score.

    Raises:
        TextError: the file has a score of this name.
    """
    first = utterance[0]
    if name in first.names and format != "kaldi":
        raise TextError(f"{first.where}: there is a score {name} already; give the new one another name with --name.")
    if format == "jsonl":
        records: list[Any] = []
        for hypothesis, score in zip(utterance, scores, strict=True):
            each, record = hypothesis.row
            each["scores"] = each.get("scores", {}) | {name: round(score, 6)}
            if not records or records[-1] is not record:
                records.append(record)
        yield from (_json_row(record, first.where) for record in records)
        return
    for hypothesis, score in zip(utterance, scores, strict=True):
        cells = hypothesis.row
        if format == "kaldi":
            yield f"{cells[0]} {-score:.6f}"
        else:
            yield "\t".join([*cells[:-1], f"{score:.6f}", cells[-1]])


def _json_row(record: Any, where: str) -> str:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise TextError(
            f"{where}: the row holds a value that JSON has not, so it cannot be written ({error})."
        ) from error


def best_row(hypothesis: Hypothesis, total: float, format: str) -> str:
    """The row of the hypothesis that was chosen: its utterance, with `jsonl` its total, and its text."""
    if format == "jsonl":
        chosen = {"utterance": hypothesis.utterance, "text": hypothesis.text, "total": round(total, 6)}
        return json.dumps(chosen, ensure_ascii=False)
    return f"{hypothesis.utterance}{' ' if format == 'kaldi' else chr(9)}{hypothesis.text}"
