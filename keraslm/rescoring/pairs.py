"""Minimal pairs: is the good sentence more probable than the bad one?

    jsonl   {"sentence_good": ..., "sentence_bad": ..., "field": ..., "linguistics_term": ..., "UID": ..., "pairID": 0}
    tsv     good sentence <tab> bad sentence

The first line of a file decides which format it has. The probability of a sentence includes its end, as in BLiMP
(Warstadt et al. 2020, "BLiMP: the benchmark of linguistic minimal pairs for English", section 4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from keraslm.errors import TextError, shown
from keraslm.rescoring.nbest import json_object
from keraslm.rescoring.prefixes import Model, opened, score_sets
from keraslm.scoring.scorer import Scorer
from keraslm.text.files import TextFile

SENTENCES = ("sentence_good", "sentence_bad")
HEADER = "field\tterm\tuid\tpair\tgood_logprob\tbad_logprob\tdifference\tresult\toovs\tgood\tbad"
UNKNOWN = "-"  # field, term or UID of a pair that has none

By = Literal["all", "field", "term", "uid"]


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in one point.

    Attributes:
        good, bad: the sentences.
        field: field of linguistics, such as syntax.
        term: phenomenon, such as binding.
        uid: set that the pair belongs to.
        number: pairID, or the line of the file.
    """

    good: str
    bad: str
    field: str = UNKNOWN
    term: str = UNKNOWN
    uid: str = UNKNOWN
    number: str = UNKNOWN


@dataclass(frozen=True)
class PairScore:
    """A pair and the scores of its sentences.

    Attributes:
        pair: the sentences.
        good, bad: log-probability of each sentence and its end, nats.
        difference: `good - bad`, above 0 if the model prefers the good sentence; 0 for equal tokens.
        oovs: number of tokens `<unk>` in both sentences.
    """

    pair: Pair
    good: float
    bad: float
    difference: float
    oovs: int

    @property
    def result(self) -> str:
        """`"right"`, `"wrong"` or `"tie"`."""
        return "tie" if self.difference == 0 else "right" if self.difference > 0 else "wrong"

    def row(self) -> str:
        """The pair as a row of a table, tab-separated; `HEADER` has its columns."""
        pair, numbers = self.pair, f"{self.good:.6f}\t{self.bad:.6f}\t{self.difference:.6f}"
        sentences = (text.replace("\t", " ").replace("\n", " ") for text in (pair.good, pair.bad))
        labels = (pair.field, pair.term, pair.uid, pair.number)
        return "\t".join([*labels, numbers, self.result, str(self.oovs), *sentences])


@dataclass
class Tally:
    """Results of several pairs. A tie counts as wrong.

    Attributes:
        pairs, right, ties: number of pairs, of right ones, and of ties.
        oovs: number of tokens `<unk>`.
        oov_pairs: number of pairs with such a token.
        groups: results of the pairs of each field, term or UID, by name.
    """

    pairs: int = 0
    right: int = 0
    ties: int = 0
    oovs: int = 0
    oov_pairs: int = 0
    groups: dict[str, Tally] = dataclasses.field(default_factory=dict)

    def add(self, score: PairScore) -> None:
        """Count one pair."""
        self.pairs += 1
        self.right += score.result == "right"
        self.ties += score.result == "tie"
        self.oovs += score.oovs
        self.oov_pairs += score.oovs > 0

    @property
    def accuracy(self) -> float:
        """Share of right pairs; NaN without pairs."""
        return self.right / self.pairs if self.pairs else float("nan")

    def row(self) -> str:
        """Pairs, right, ties, accuracy, oovs and oov_pairs, tab-separated."""
        return f"{self.pairs}\t{self.right}\t{self.ties}\t{self.accuracy:.4f}\t{self.oovs}\t{self.oov_pairs}"


def pairs(
    model: Model,
    sentences: str | Path | TextFile | Iterable[Pair | tuple[str, str]],
    *,
    by: By = "all",
    provider: str = "auto",
    errors: str = "strict",
) -> Tally:
    """Count the pairs whose good sentence is more probable than the bad one.

    Args:
        model: a model file, several of one tokenizer (their probabilities are averaged), or a `Scorer`.
        sentences: a file, or pairs of a good and a bad sentence.
        by: `"field"`, `"term"` or `"uid"` adds `groups` to the result.
        provider: device that onnxruntime computes on: `"cpu"`, `"cuda"` or `"auto"`.
        errors: `"strict"` fails at invalid UTF-8, `"replace"` reads U+FFFD.

    Returns:
        the number of pairs, of right ones and of ties; `accuracy` is the share of right ones.

    Raises:
        TextError: a line that is not a pair, with file and line.

    Example:
        >>> keraslm.pairs("model.onnx", [("the cats sit", "the cats sits")]).accuracy
        1.0
        >>> keraslm.pairs("model.onnx", "blimp.jsonl", by="term").groups["binding"].accuracy
        0.74
    """
    if isinstance(sentences, str | Path | TextFile):
        sentences = read_pairs(sentences if isinstance(sentences, TextFile) else TextFile(sentences, errors))
    total = Tally()
    for score in score_pairs(opened(model, provider), sentences):
        total.add(score)
        if by != "all":
            total.groups.setdefault(getattr(score.pair, by), Tally()).add(score)
    return total


def read_pairs(file: TextFile) -> Iterator[Pair]:
    """The pairs of a file, in order.

    Raises:
        TextError: a line that is not a pair, with file and line.
    """
    as_json = False
    for number, line in enumerate(file, 1):
        where, cells = f"{file.name}:{number}", line.split("\t")
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
    labels = {"field": UNKNOWN, "linguistics_term": UNKNOWN, "UID": UNKNOWN, "pairID": number}
    cells = (_label(record.get(name, default)) for name, default in labels.items())
    return Pair(record[SENTENCES[0]], record[SENTENCES[1]], *cells)


def _label(value: object) -> str:
    """A value as one cell of a table."""
    return " ".join((value if isinstance(value, str) else shown(value)).split())


def score_pairs(scorer: Scorer, pairs: Iterable[Pair | tuple[str, str]]) -> Iterator[PairScore]:
    """Score pairs as they come; common beginnings of sentences are computed once.

    Example:
        >>> (found,) = score_pairs(scorer, [("the cats sit", "the cats sits")])
        >>> found.result
        'right'
    """
    waiting: list[Pair] = []

    def sentences() -> Iterator[tuple[str, str]]:
        for pair in pairs:
            waiting.append(pair if isinstance(pair, Pair) else Pair(*pair))
            yield waiting[-1].good, waiting[-1].bad

    for good, bad in score_sets(scorer, sentences()):
        difference = 0.0 if np.array_equal(good.ids, bad.ids) else good.logprob - bad.logprob
        yield PairScore(waiting.pop(0), good.logprob, bad.logprob, difference, int(good.oov.sum() + bad.oov.sum()))
