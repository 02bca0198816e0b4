"""n-best lists: the utterances of a file, one at a time, with the rows of their hypotheses.

    tsv     utterance <tab> score <tab> ... <tab> text      the same number of scores in each row; also csv and raw
    kaldi   utterance-k words of the hypothesis             scores in separate files: utterance-k number
    moses   id ||| text ||| features ||| total
    jsonl   {"utterance": "u1", "hypotheses": [{"text": "the cat", "scores": {"acoustic": -12.5}}]}

`keraslm.rescoring.formats` has one module per format. The rows of an utterance must follow each other. A text may be
empty, and hypotheses may be equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from keraslm import arguments
from keraslm.errors import UsageError
from keraslm.rescoring.formats import jsonl, kaldi, moses, tables
from keraslm.rescoring.hypothesis import Hypothesis, Utterance, check
from keraslm.text.files import TextFile
from keraslm.text.rows import ROW_FORMATS

FORMATS = (*ROW_FORMATS, "kaldi", "moses", "jsonl")
LM = "lm_logprob"


def read_nbest(
    file: TextFile, format: str = "tsv", score_columns: int | None = None, scores: Sequence[TextFile] = ()
) -> Iterator[Utterance]:
    """The utterances of a file, in order.

    Args:
        format: `"tsv"`, `"csv"`, `"raw"`, `"kaldi"`, `"moses"` or `"jsonl"`.
        score_columns: number of scores per row of a table; None means that of the first row.
        scores: files of costs for `"kaldi"`, with the same keys in the same order as `file`.
    """
    check_options(format, score_columns, scores)
    if format in ROW_FORMATS:
        return _utterances(tables.rows(file, score_columns, format))
    if format == "kaldi":
        return _utterances(kaldi.rows(file, scores))
    return _utterances(moses.rows(file) if format == "moses" else jsonl.rows(file))


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
        check(name not in seen, f"{where}: utterance {name!r} comes a second time; its rows must follow each other.")
        seen.add(name)
        yield utterance


def score_name(name: str | None, format: str) -> str:
    """The name of a new score, or the default of the format; a `UsageError` if the format does not allow it."""
    if format != "moses":
        return LM if name is None else name
    moses.check_name(moses.LM if name is None else name)
    return moses.LM if name is None else name


def scored_rows(utterance: Utterance, scores: Sequence[float], format: str, name: str | None = None) -> Iterator[str]:
    """The rows of an utterance with one more score per row; a `TextError` if it has a score of this name.

    In a table the score comes before the text; with `"kaldi"` a row is a key and a cost, the negated score; with
    `"moses"` the score is the last feature; with `"jsonl"` it is added to `scores` under `name`.
    """
    first, name = utterance[0], score_name(name, format)
    if format == "kaldi":
        return kaldi.scored(utterance, scores)
    check(name not in (first.names or ()), f"{first.where}: a score {name} already exists; choose a different `name`.")
    if format in ROW_FORMATS:
        return tables.scored(utterance, scores, format)
    return (moses if format == "moses" else jsonl).scored(utterance, scores, name)


def best_row(hypothesis: Hypothesis, total: float, format: str) -> str:
    """The row of the best hypothesis: utterance and text; with `"jsonl"` also the total."""
    if format in ROW_FORMATS:
        return tables.best(hypothesis, format)
    if format == "jsonl":
        return jsonl.best(hypothesis, total)
    return (moses if format == "moses" else kaldi).best(hypothesis)
