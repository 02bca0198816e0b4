"""Minimal pairs: is the good sentence more probable than the bad one?

    jsonl   {"sentence_good": ..., "sentence_bad": ..., "field": ..., "linguistics_term": ..., "UID": ..., "pairID": 0}
    tsv     good sentence <tab> bad sentence

The first line of a file determines its format. The probability of a sentence includes its end, as in BLiMP
(Warstadt et al. 2020, "BLiMP: the benchmark of linguistic minimal pairs for English", section 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, tee
from pathlib import Path
from typing import Any

import numpy as np

from keraslm import arguments
from keraslm.errors import TextError, UsageError, shown
from keraslm.rescoring.nbest import json_object
from keraslm.rescoring.prefixes import Model, opened, score_sets
from keraslm.scoring.scorer import Scorer
from keraslm.text.files import ERRORS, TextFile, TextFiles
from keraslm.text.pieces import one_line
from keraslm.text.rows import cells_of

SENTENCES = ("sentence_good", "sentence_bad")
HEADER = ("field", "term", "uid", "pair", "good_logprob", "bad_logprob", "difference", "result", "oovs", "good", "bad")
UNKNOWN = "-"  # field, term or UID of a pair that has none


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in one point; the labels are those of BLiMP, `number` is the pairID or the line."""

    good: str
    bad: str
    field: str = UNKNOWN
    term: str = UNKNOWN
    uid: str = UNKNOWN
    number: str = UNKNOWN


@dataclass(frozen=True)
class PairScore:
    """Log-probabilities (nats) of both sentences of a pair, with their ends, and the number of `<unk>` in them."""

    pair: Pair
    good: float
    bad: float
    difference: float  # good - bad; 0 if both have the same tokens
    oovs: int
    tokens: int  # of both sentences, with their ends

    @property
    def result(self) -> str:
        """`"right"`, `"wrong"` or `"tie"`."""
        return "tie" if self.difference == 0 else "right" if self.difference > 0 else "wrong"

    def cells(self) -> list[str]:
        """The pair as a row of a table with the columns `HEADER`."""
        pair = self.pair
        numbers = (f"{number:.6f}" for number in (self.good, self.bad, self.difference))
        sentences = (text.replace("\t", " ").replace("\n", " ") for text in (pair.good, pair.bad))
        labels = (pair.field, pair.term, pair.uid, pair.number)
        return [*labels, *numbers, self.result, str(self.oovs), *sentences]


@dataclass(frozen=True)
class PairResults:
    """The scores of several pairs. A tie counts as wrong."""

    scores: list[PairScore]

    def count(self, result: str) -> int:
        """Number of pairs that are `"right"`, `"wrong"` or a `"tie"`."""
        return sum(score.result == result for score in self.scores)

    @property
    def accuracy(self) -> float:
        """Share of right pairs; NaN without pairs."""
        return self.count("right") / len(self.scores) if self.scores else float("nan")

    def by(self, name: str) -> dict[str, PairResults]:
        """The results per `"field"`, `"term"` or `"uid"`."""
        groups: dict[str, list[PairScore]] = {}
        for score in self.scores:
            groups.setdefault(getattr(score.pair, name), []).append(score)
        return {name: PairResults(scores) for name, scores in groups.items()}

    def cells(self) -> list[str]:
        """Number of pairs, right ones and ties, accuracy, OOV tokens and pairs with one, as cells of a table."""
        oovs = [score.oovs for score in self.scores]
        counts = [str(count) for count in (len(oovs), self.count("right"), self.count("tie"))]
        return [*counts, f"{self.accuracy:.4f}", str(sum(oovs)), str(sum(map(bool, oovs)))]


def pairs(
    model: Model,
    sentences: str | Path | TextFile | Iterable[Pair | tuple[str, str]],
    *,
    provider: str = "auto",
    errors: str = "strict",
    encoding: str = "utf-8",
) -> PairResults:
    """Score minimal pairs: is the good sentence more probable than the bad one?

    Args:
        model: a model file, several with the same tokenizer (their probabilities are averaged), or a `Scorer`.
        sentences: a file, a folder or a pattern; or pairs of a good and a bad sentence.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        errors: `"strict"` fails at invalid bytes; `"replace"` reads them as U+FFFD.
        encoding: of the file.

    Raises:
        TextError: a line that is not a pair, with file and line.

    Example:
        >>> keraslm.pairs("model.onnx", [("the cats sit", "the cats sits")]).accuracy
        1.0
        >>> keraslm.pairs("model.onnx", "blimp.jsonl").by("term")["binding"].accuracy
        0.74
    """
    arguments.choice(errors, "errors", ERRORS)
    if isinstance(sentences, TextFile):
        sentences = read_pairs(sentences)
    elif isinstance(sentences, str | Path):
        arguments.not_empty(sentences=sentences)
        sentences = chain.from_iterable(map(read_pairs, TextFiles([sentences], errors, encoding).files))
    return PairResults([*score_pairs(opened(model, provider), sentences)])


def read_pairs(file: TextFile) -> Iterator[Pair]:
    """The pairs of a file, in order; a `TextError` names the line that is not a pair."""
    as_json = False
    for number, line in enumerate(file, 1):
        where, cells = f"{file.name}:{number}", cells_of(line, "tsv")
        if number == 1:
            as_json = line.lstrip().startswith("{")
            if tuple(cells) == SENTENCES:
                continue
        if as_json:
            yield _of_json(line, where, number)
        elif len(cells) == 2:
            yield Pair(cells[0], cells[1], number=str(number))
        else:
            raise TextError(f"{where}: {len(cells)} columns, but two are expected: good sentence, tab, bad sentence.")


def _of_json(line: str, where: str, number: int) -> Pair:
    record = json_object(line, where)
    for name in SENTENCES:
        if not isinstance(record.get(name), str):
            raise TextError(f'{where}: no "{name}" with a string.')
        one_line(record[name], where)
    defaults = {"field": UNKNOWN, "linguistics_term": UNKNOWN, "UID": UNKNOWN, "pairID": number}
    labels = [record.get(name, default) for name, default in defaults.items()]
    cells = (" ".join((label if isinstance(label, str) else shown(label)).split()) for label in labels)
    return Pair(record[SENTENCES[0]], record[SENTENCES[1]], *cells)


def _pair(pair: Any, place: str) -> Pair:
    if isinstance(pair, Pair):
        return replace(
            pair, good=arguments.text(pair.good, f"{place}.good"), bad=arguments.text(pair.bad, f"{place}.bad")
        )
    found = [*arguments.texts(pair, place)]
    if len(found) != 2:
        raise UsageError(f"`{place}` is {shown(pair)}, but a good and a bad sentence are expected.")
    return Pair(*found)


def score_pairs(scorer: Scorer, pairs: Iterable[Pair | tuple[str, str]]) -> Iterator[PairScore]:
    """Score pairs as they are read; common beginnings of sentences are computed once."""
    kept, read = tee(_pair(pair, place) for pair, place in arguments.each(pairs, "sentences", "pairs of strings"))
    scored = score_sets(scorer, ((pair.good, pair.bad) for pair in read))
    for (good, bad), pair in zip(scored, kept, strict=True):
        difference = 0.0 if np.array_equal(good.ids, bad.ids) else good.logprob - bad.logprob
        oovs, tokens = int(good.oov.sum() + bad.oov.sum()), len(good.ids) + len(bad.ids)
        yield PairScore(pair, good.logprob, bad.logprob, difference, oovs, tokens)
