"""Word errors of n-best lists, and the weights with the fewest errors. `jiwer` counts the errors of each hypothesis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError
from keraslm.rescoring.rescore import Parts, Rescored
from keraslm.text.pieces import split_words

Counts = NDArray[np.int64]
Point = tuple[float, float]  # weight, word penalty


class WordErrors(NamedTuple):
    """Numbers of wrong, missing and extra words in hypotheses, and number of words in their references."""

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


def count_errors(reference: str, texts: Sequence[str]) -> Counts:
    """Substitutions, deletions and insertions of each text, `(texts, 3)`; words are separated by white space."""
    import jiwer

    texts = [" ".join(split_words(text)) for text in texts]
    distinct = list(dict.fromkeys(texts))
    found = jiwer.process_words([" ".join(split_words(reference))] * len(distinct), distinct)
    counts = {text: Counter[str]() for text in distinct}
    for text, chunks in zip(distinct, found.alignments, strict=True):
        for each in chunks:
            length = max(each.ref_end_idx - each.ref_start_idx, each.hyp_end_idx - each.hyp_start_idx)
            counts[text][each.type] += length
    return np.array([[counts[text][kind] for kind in ("substitute", "delete", "insert")] for text in texts], np.int64)


class ListErrors:
    """The word errors of n-best lists for any weights; the texts are not kept."""

    def __init__(self, references: Mapping[str, str]) -> None:
        self._references = references
        self._parts: list[Parts] = []
        self._counts: list[Counts] = []
        self.words = 0

    def add(self, found: Rescored) -> None:
        """Count the errors of an utterance's hypotheses; a `TextError` if it has no reference."""
        first = found.hypotheses[0]
        if first.utterance not in self._references:
            raise TextError(f"{first.where}: utterance {first.utterance!r} has no reference.")
        reference = self._references[first.utterance]
        self._parts.append(found.parts)
        self._counts.append(count_errors(reference, [each.text for each in found.hypotheses]))
        self.words += len(split_words(reference))

    @property
    def missing(self) -> int:
        """Number of references without hypotheses."""
        return len(self._references) - len(self._parts)

    def first_pass(self) -> WordErrors:
        """Errors of the hypotheses with the largest first-pass totals."""
        return self._of_largest([parts.first_pass for parts in self._parts])

    def oracle(self) -> WordErrors:
        """Errors of the hypotheses with the fewest errors: the lower bound for all weights."""
        return self._of_largest([-counts.sum(axis=1) for counts in self._counts])

    def at(self, weight: float, word_penalty: float) -> WordErrors:
        """Errors of the hypotheses with the largest totals."""
        return self._of_largest([parts.totals(weight, word_penalty) for parts in self._parts])

    def _of_largest(self, values: Sequence[NDArray[Any]]) -> WordErrors:
        chosen = (counts[int(value.argmax())] for counts, value in zip(self._counts, values, strict=True))
        return WordErrors._make([*map(int, sum(chosen, np.zeros(3, np.int64))), self.words])


def best_point(found: Mapping[Point, WordErrors]) -> Point:
    """The point with the fewest errors; of equal ones, that with the weight, then the penalty, nearest to 0."""
    return min(found, key=lambda point: (found[point].errors, abs(point[0]), abs(point[1])))


def error_rows(errors: ListErrors, points: Iterable[Point], tune: bool) -> Iterator[list[str]]:
    """The table of word errors, as cells: first pass, oracle, best point, and with `tune` a row per point."""
    found = {point: errors.at(*point) for point in points}
    best = best_point(found)
    rows = [(["first-pass", "-", "-"], errors.first_pass()), (["oracle", "-", "-"], errors.oracle())]
    for setting, point in [("best" if tune else "rescored", best), *(("grid", point) for point in found if tune)]:
        rows.append(([setting, *(f"{value:g}" for value in point)], found[point]))
    yield ["setting", "weight", "word_penalty", "wer", "errors", *WordErrors._fields]
    for setting_cells, counts in rows:
        yield [*setting_cells, f"{100 * counts.rate:.2f}", str(counts.errors), *map(str, counts)]
