"""Word errors of n-best lists, and the weights with the fewest. Errors are counted by `jiwer`, once a hypothesis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError
from keraslm.rescoring.nbest import Utterance
from keraslm.rescoring.rescore import Parts
from keraslm.text.files import TextFile
from keraslm.text.pieces import split_words

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class WordErrors:
    """Errors of a text against what was said.

    Attributes:
        substitutions, deletions, insertions: of words.
        words: that were said.
    """

    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors a word that was said; NaN where nothing was."""
        return self.errors / self.words if self.words else float("nan")


def read_references(file: TextFile) -> dict[str, str]:
    """What was said in each utterance: rows of `utterance <white space> text`, the text possibly empty.

    Raises:
        TextError: a blank line, or an utterance that comes twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(file, 1):
        name, _, text = line.strip(" \t").replace("\t", " ", 1).partition(" ")
        if not name or name in found:
            fault = f"utterance {name!r} comes a second time" if name else "a blank line"
            raise TextError(f"{file.name}:{number}: {fault}. A row is an utterance and what was said in it.")
        found[name] = text
    return found


def count_errors(reference: str, texts: Sequence[str]) -> Counts:
    """Substitutions, deletions and insertions of each text, `(texts, 3)`; equal texts are compared once.

    Words are what stands between white space, compared as they are.

    Example:
        >>> count_errors("the cat sat", ["the bat sat", "cat sat down"]).tolist()
        [[1, 0, 0], [0, 1, 1]]
    """
    import jiwer

    distinct = list(dict.fromkeys(" ".join(split_words(text)) for text in texts))
    found = jiwer.process_words([" ".join(split_words(reference))] * len(distinct), distinct)
    counted = {text: _counts(chunks) for text, chunks in zip(distinct, found.alignments, strict=True)}
    return np.array([counted[" ".join(split_words(text))] for text in texts], np.int64)


def _counts(chunks: Any) -> list[int]:
    lengths = dict.fromkeys(("substitute", "delete", "insert", "equal"), 0)
    for chunk in chunks:
        lengths[chunk.type] += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
    return [lengths["substitute"], lengths["delete"], lengths["insert"]]


class ListErrors:
    """The word errors of a development list under any weights; texts are not kept.

    Example:
        >>> found = ListErrors()
        >>> for utterance, scores in score_lists(scorer, lists):
        ...     found.add(utterance, parts(utterance, scores, Weighting()), references)
        >>> found.oracle().rate <= found.at(weight=0.5, word_penalty=0.0).rate
        True
    """

    def __init__(self) -> None:
        self._parts: list[Parts] = []
        self._counts: list[Counts] = []
        self.words = 0

    def add(self, utterance: Utterance, parts: Parts, references: Mapping[str, str]) -> None:
        """Count the errors of an utterance's hypotheses.

        Raises:
            TextError: it has no reference.
        """
        first = utterance[0]
        if first.utterance not in references:
            raise TextError(f"{first.where}: utterance {first.utterance!r} has no reference.")
        reference = references[first.utterance]
        self._parts.append(parts)
        self._counts.append(count_errors(reference, [hypothesis.text for hypothesis in utterance]))
        self.words += len(split_words(reference))

    def __len__(self) -> int:
        """Utterances."""
        return len(self._parts)

    def first_pass(self) -> WordErrors:
        """Of the hypotheses that the first pass puts first."""
        return self._of_largest([parts.first_pass for parts in self._parts])

    def oracle(self) -> WordErrors:
        """Of the hypotheses with the fewest errors: what no weights can go below."""
        return self._of_largest([-counts.sum(axis=1) for counts in self._counts])

    def at(self, weight: float, word_penalty: float) -> WordErrors:
        """Of the hypotheses with the largest totals."""
        return self._of_largest([parts.totals(weight, word_penalty) for parts in self._parts])

    def _of_largest(self, values: Sequence[NDArray[Any]]) -> WordErrors:
        """Of the hypotheses with the largest value, the first of equal ones."""
        chosen = (counts[int(value.argmax())] for counts, value in zip(self._counts, values, strict=True))
        substitutions, deletions, insertions = map(int, sum(chosen, np.zeros(3, np.int64)))
        return WordErrors(substitutions, deletions, insertions, self.words)


def grid(lists: ListErrors, points: Iterable[tuple[float, float]]) -> list[tuple[float, float, WordErrors]]:
    """Word errors at every point: a weight and a word penalty."""
    return [(weight, penalty, lists.at(weight, penalty)) for weight, penalty in points]


def best_setting(found: Iterable[tuple[float, float, WordErrors]]) -> tuple[float, float, WordErrors]:
    """The point of a grid with the fewest errors; of equal ones that with the weight, then the penalty, nearest 0."""
    return min(found, key=lambda point: (point[2].errors, abs(point[0]), abs(point[1])))
