"""Minimal pairs: is the good sentence more probable than the bad one?

    jsonl   {"sentence_good": ..., "sentence_bad": ..., "field": ..., "linguistics_term": ..., "UID": ..., "pairID": 0}
    tsv     good sentence <tab> bad sentence

The first line of a file says which it is. The measure is the probability of the whole sentence and its end, as in
BLiMP (Warstadt et al. 2020, "BLiMP: the benchmark of linguistic minimal pairs for English", section 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from keraslm.errors import TextError, shown
from keraslm.rescoring.nbest import json_object
from keraslm.rescoring.prefixes import score_sets
from keraslm.scoring.measures import LineScore
from keraslm.scoring.scorer import Scorer
from keraslm.text.files import TextFile

SENTENCES = ("sentence_good", "sentence_bad")
UNKNOWN = "-"  # field, term or UID of a pair that has none


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in one point.

    Attributes:
        good, bad: the sentences.
        field: of linguistics, as syntax.
        term: the phenomenon, as binding.
        uid: of the set that the pair belongs to.
        number: of the pair: its pairID, or its line in the file.
    """

    good: str
    bad: str
    field: str = UNKNOWN
    term: str = UNKNOWN
    uid: str = UNKNOWN
    number: str = UNKNOWN


@dataclass(frozen=True)
class PairScore:
    """A pair and the scores of its sentences."""

    pair: Pair
    good: LineScore
    bad: LineScore

    @property
    def difference(self) -> float:
        """Of the log-probabilities, nats; above 0 where the model prefers the good sentence; 0 of equal tokens."""
        return 0.0 if np.array_equal(self.good.ids, self.bad.ids) else self.good.logprob - self.bad.logprob

    @property
    def result(self) -> str:
        """`"right"`, `"wrong"` or `"tie"`."""
        return "tie" if self.difference == 0 else "right" if self.difference > 0 else "wrong"

    @property
    def oovs(self) -> int:
        """Tokens of both sentences that are `<unk>`."""
        return int(self.good.oov.sum() + self.bad.oov.sum())


@dataclass
class Tally:
    """Results of many pairs. A tie counts as wrong.

    Attributes:
        pairs, right, ties: how many.
        oovs: tokens that are `<unk>`.
        oov_pairs: pairs with such a token.
    """

    pairs: int = 0
    right: int = 0
    ties: int = 0
    oovs: int = 0
    oov_pairs: int = 0

    def add(self, score: PairScore) -> None:
        self.pairs += 1
        self.right += score.result == "right"
        self.ties += score.result == "tie"
        self.oovs += score.oovs
        self.oov_pairs += score.oovs > 0

    @property
    def accuracy(self) -> float:
        """Right pairs of all; NaN without a pair."""
        return self.right / self.pairs if self.pairs else float("nan")


def read_pairs(file: TextFile) -> Iterator[Pair]:
    """The pairs of a file, in order.

    Raises:
        TextError: a line that is no pair, with file and line.
    """
    as_json = False
    for number, line in enumerate(file, 1):
        where = f"{file.name}:{number}"
        if number == 1:
            as_json = line.lstrip().startswith("{")
            if tuple(line.split("\t")) == SENTENCES:
                continue
        if as_json:
            yield _of_json(line, where, number)
            continue
        cells = line.split("\t")
        if len(cells) != 2:
            raise TextError(f"{where}: {len(cells)} columns, but two are expected: good sentence, tab, bad sentence.")
        yield Pair(cells[0], cells[1], number=str(number))


def _of_json(line: str, where: str, number: int) -> Pair:
    record = json_object(line, where)
    for name in SENTENCES:
        if not isinstance(record.get(name), str):
            raise TextError(f'{where}: no "{name}" that is a text.')
    field, term, uid = (_label(record.get(name, UNKNOWN)) for name in ("field", "linguistics_term", "UID"))
    number_of_pair = _label(record.get("pairID", number))
    return Pair(record[SENTENCES[0]], record[SENTENCES[1]], field, term, uid, number_of_pair)


def _label(value: object) -> str:
    """A value as one cell of a table."""
    return " ".join((value if isinstance(value, str) else shown(value)).split())


def score_pairs(scorer: Scorer, pairs: Iterable[Pair]) -> Iterator[PairScore]:
    """Score pairs as they come, what the sentences of a pair, and of other pairs, have in common at their start once.

    Example:
        >>> (found,) = score_pairs(scorer, [Pair("the cats sit", "the cats sits")])
        >>> found.result
        'right'
    """
    waiting: list[Pair] = []

    def sentences() -> Iterator[tuple[str, str]]:
        for pair in pairs:
            waiting.append(pair)
            yield pair.good, pair.bad

    for good, bad in score_sets(scorer, sentences()):
        yield PairScore(waiting.pop(0), good, bad)
