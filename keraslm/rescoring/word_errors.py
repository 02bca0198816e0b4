"""Errors of n-best lists in words or characters, and the weights with the fewest errors.

`jiwer` counts the errors of each hypothesis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.errors import TextError
from keraslm.rescoring.bootstrap import bootstrap
from keraslm.rescoring.rescore import Parts, Rescored
from keraslm.rescoring.units import UNITS, units_of

Counts = NDArray[np.int64]
Point = tuple[float, float]  # weight, word penalty
NAMES = {"word": ("wer", "words"), "char": ("cer", "characters")}  # of the rate and of the size, in tables


class WordErrors(NamedTuple):
    """Numbers of wrong, missing and extra words (or characters) in hypotheses, and of words in their references."""

    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per word of the references; NaN without words."""
        return self.errors / self.words if self.words else float("nan")


def count_errors(reference: str, texts: Sequence[str], unit: str = "word") -> Counts:
    """Substitutions, deletions and insertions of each text, in words or characters, `(texts, 3)`."""
    import jiwer

    numbers: dict[str, str] = {}  # of the units; jiwer would strip some of the characters

    def numbered(text: str) -> str:
        return " ".join(numbers.setdefault(each, str(len(numbers))) for each in units_of(text, unit))

    said, texts = numbered(reference), [*map(numbered, texts)]
    distinct = list(dict.fromkeys(texts))
    found = jiwer.process_words([said] * len(distinct), distinct)
    counts = {text: Counter[str]() for text in distinct}
    for text, chunks in zip(distinct, found.alignments, strict=True):
        for each in chunks:
            length = max(each.ref_end_idx - each.ref_start_idx, each.hyp_end_idx - each.hyp_start_idx)
            counts[text][each.type] += length
    return np.array([[counts[text][kind] for kind in ("substitute", "delete", "insert")] for text in texts], np.int64)


@dataclass(frozen=True)
class UtteranceErrors:
    """The errors of the `n` hypotheses of an utterance, `(n, 3)`, and what chooses one of them."""

    reference: str
    size: int  # words or characters of the reference
    parts: Parts
    counts: Counts

    def first_pass(self) -> int:
        """Place of the hypothesis with the largest first-pass total."""
        return int(self.parts.first_pass.argmax())

    def oracle(self) -> int:
        """Place of the hypothesis with the fewest errors."""
        return int(self.counts.sum(axis=1).argmin())

    def best(self, weight: float, word_penalty: float) -> int:
        """Place of the hypothesis with the largest total."""
        return int(self.parts.totals(weight, word_penalty).argmax())


class ListErrors:
    """The errors of n-best lists for any weights; the hypotheses are not kept.

    Args:
        references: of each utterance.
        unit: `"word"` or `"char"`.
    """

    def __init__(self, references: Mapping[str, str], unit: str = "word") -> None:
        self.unit = arguments.choice(unit, "unit", UNITS)
        self._references = references
        self._utterances: list[UtteranceErrors] = []

    def add(self, found: Rescored) -> UtteranceErrors:
        """Count the errors of an utterance's hypotheses; a `TextError` if it has no reference."""
        first = found.hypotheses[0]
        if first.utterance not in self._references:
            raise TextError(f"{first.where}: utterance {first.utterance!r} has no reference.")
        reference = self._references[first.utterance]
        counts = count_errors(reference, [each.text for each in found.hypotheses], self.unit)
        self._utterances.append(UtteranceErrors(reference, len(units_of(reference, self.unit)), found.parts, counts))
        return self._utterances[-1]

    @property
    def missing(self) -> int:
        """Number of references without hypotheses."""
        return len(self._references) - len(self._utterances)

    @property
    def sizes(self) -> Counts:
        """Number of words or characters of each reference, `(utterances,)`."""
        return np.array([each.size for each in self._utterances], np.int64)

    def first_pass(self) -> Counts:
        """Errors of the hypotheses with the largest first-pass totals, `(utterances, 3)`."""
        return self._chosen(UtteranceErrors.first_pass)

    def oracle(self) -> Counts:
        """Errors of the hypotheses with the fewest errors: the lower bound for all weights, `(utterances, 3)`."""
        return self._chosen(UtteranceErrors.oracle)

    def at(self, weight: float, word_penalty: float) -> Counts:
        """Errors of the hypotheses with the largest totals, `(utterances, 3)`."""
        return self._chosen(lambda each: each.best(weight, word_penalty))

    def _chosen(self, place: Callable[[UtteranceErrors], int]) -> Counts:
        return np.array([each.counts[place(each)] for each in self._utterances], np.int64).reshape(-1, 3)

    def total(self, counts: Counts) -> WordErrors:
        """The sums of the errors of all utterances."""
        return WordErrors._make(map(int, [*counts.sum(axis=0), self.sizes.sum()]))


def best_point(found: Mapping[Point, WordErrors]) -> Point:
    """The point with the fewest errors; of equal ones, that with the weight, then the penalty, nearest to 0."""
    return min(found, key=lambda point: (found[point].errors, abs(point[0]), abs(point[1])))


def error_rows(
    errors: ListErrors, points: Iterable[Point], tune: bool, resamples: int | None = None, seed: int = 0
) -> Iterator[list[str]]:
    """The table of errors, as cells: first pass, oracle, best point, and with `tune` a row per point.

    With `resamples`, all rows but those of the grid have confidence intervals; see `bootstrap`.
    """
    found = {point: errors.total(errors.at(*point)) for point in points}
    best, best_name = best_point(found), "best" if tune else "rescored"
    chosen = {"first-pass": errors.first_pass(), "oracle": errors.oracle(), best_name: errors.at(*best)}
    rate, size = NAMES[errors.unit]
    header = ["setting", "weight", "word_penalty", rate, "errors", *WordErrors._fields[:-1], size]
    intervals = None
    if resamples is not None:
        header += [f"{rate}_low", f"{rate}_high", "improvement"]
        intervals = bootstrap(np.array([own.sum(axis=1) for own in chosen.values()]), errors.sizes, resamples, seed)
    yield header
    for number, (setting, counts) in enumerate(chosen.items()):
        weights = best if setting == best_name else None
        yield [*_cells(setting, weights, errors.total(counts)), *(intervals.cells(number) if intervals else ())]
    for point, total in found.items() if tune else ():
        yield [*_cells("grid", point, total), *(["-"] * 3 if intervals else ())]


def _cells(setting: str, point: Point | None, total: WordErrors) -> list[str]:
    weights = [f"{value:g}" for value in point] if point else ["-", "-"]
    return [setting, *weights, f"{100 * total.rate:.2f}", str(total.errors), *map(str, total)]


def utterance_rows(lists: Iterable[Rescored], errors: ListErrors) -> Iterator[list[str]]:
    """A table with one row per utterance, as cells: errors of first pass, oracle and best hypothesis, and the texts."""
    names = ("first_pass", "oracle", "rescored")
    yield ["utterance", NAMES[errors.unit][1], *(f"{name}_errors" for name in names), "reference", *names]
    for found in lists:
        own, weighting = errors.add(found), found.weighting
        places = own.first_pass(), own.oracle(), own.best(weighting.weight, weighting.word_penalty)
        counts = [str(own.counts[place].sum()) for place in places]
        texts = [found.hypotheses[place].text for place in places]
        yield [found.hypotheses[0].utterance, str(own.size), *counts, own.reference, *texts]
