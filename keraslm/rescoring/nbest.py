"""n-best lists: the utterances of a file, one at a time, with the rows of their hypotheses.

    tsv     utterance <tab> score <tab> ... <tab> text      the same number of scores in each row; also csv and raw
    kaldi   utterance-k words of the hypothesis             scores in separate files: utterance-k number
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
from keraslm.rescoring.formats import jsonl, kaldi, tables
from keraslm.rescoring.hypothesis import Hypothesis, Utterance, check
from keraslm.text.files import TextFile
from keraslm.text.rows import ROW_FORMATS

FORMATS = (*ROW_FORMATS, "kaldi", "jsonl")
LM = "lm_logprob"


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
        return _utterances(kaldi.rows(file, scores))
    return _utterances(jsonl.rows(file) if format == "jsonl" else tables.rows(file, score_columns, format))


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


def scored_rows(utterance: Utterance, scores: Sequence[float], format: str, name: str = LM) -> Iterator[str]:
    """The rows of an utterance with one more score per row; a `TextError` if it has a score of this name.

    In a table the score comes before the text; with `"kaldi"` a row is a key and a cost, the negated score; with
    `"jsonl"` the score is added to `scores` under `name`.
    """
    first = utterance[0]
    if format == "kaldi":
        return kaldi.scored(utterance, scores)
    check(name not in first.names, f"{first.where}: a score {name} already exists; choose a different `name`.")
    return jsonl.scored(utterance, scores, name) if format == "jsonl" else tables.scored(utterance, scores, format)


def best_row(hypothesis: Hypothesis, total: float, format: str) -> str:
    """The row of the best hypothesis: utterance and text; with `"jsonl"` also the total."""
    if format == "jsonl":
        return jsonl.best(hypothesis, total)
    return kaldi.best(hypothesis) if format == "kaldi" else tables.best(hypothesis, format)
