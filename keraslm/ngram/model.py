"""N-gram models: the words of a sentence come in, the log-probability of each goes out.

A model backs off (Katz 1987, "Estimation of probabilities from sparse data for the language model component of a speech
recognizer"). Let h be the last n - 1 words, and h' the same without the first of them:

    log p(w | h) = log p(h w), as listed,              if the n-gram h w is listed
                   log backoff(h) + log p(w | h')      otherwise; an unlisted h has the back-off weight 1

A sentence begins after `<s>`, whose probability is not counted. An unknown word is `<unk>`, also as a context. Without
`<unk>` in the file, its probability is 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keraslm.perplexity import BASES
from keraslm.text.tokenizer import UNK

BEGIN, END = "<s>", "</s>"
UNKNOWNS = (UNK, "<UNK>")
END_OF_SENTENCE = None  # stands for </s> among words; a word of the text named </s> is an unknown word
NOWHERE = -1  # number of an n-gram that is not listed

Word = str | None
Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
FAR = 1e30  # a log10 number beyond it is infinite: sums of some others are finite
_ZERO = -99.0  # log10 of 0 in an ARPA file
_LAST = np.iinfo(np.int64).max  # larger than every key


def number_of_ids(words: Mapping[str, int]) -> int:
    """One id per word, and one for `<unk>` in case that it is not among them."""
    return len(words) + 1


def nats(logarithms: Floats) -> Floats:
    """Natural logarithms of the log10 numbers of an ARPA file."""
    return np.asarray(np.where((logarithms == _ZERO) | (logarithms < -FAR), -np.inf, logarithms) * BASES["10"])


class Ngram(ABC):
    """An n-gram model.

    Attributes:
        path: of its file.
        digest: SHA-256 of the file, hexadecimal.
        order: n, the largest number of words of an n-gram.
    """

    path: Path
    digest: str
    order: int

    @property
    @abstractmethod
    def vocabulary(self) -> Collection[str] | None:
        """Its words, without `<s>`, `</s>` and `<unk>`; None if the file cannot list them."""

    @abstractmethod
    def knows(self, word: Word) -> bool:
        """Whether a word is not scored as `<unk>`; None, the end of a sentence, is always known."""

    @abstractmethod
    def logprobs(self, words: Sequence[Word]) -> Floats:
        """Log-probability of each word, natural logarithm, float64 `(words,)`.

        The first word follows `<s>`. None is the end of a sentence, `</s>`; the word after it follows `<s>` again.
        """


@dataclass(frozen=True, eq=False, repr=False)
class Level:
    """All n-grams with the same number of words, numbered from 0 in the order of their keys.

    The key of an n-gram is `number of its first n - 1 words * V + id of its last word`; V is `number_of_ids`.

    Attributes:
        keys: sorted, and one that no n-gram has; int64 `(n-grams + 1,)`.
        logprobs: natural logarithms, float64 `(n-grams,)`.
        backoffs: natural logarithms of the back-off weights, and 0 for what is not listed; float64 `(n-grams + 1,)`.
    """

    keys: Indices
    logprobs: Floats
    backoffs: Floats

    @classmethod
    def of(cls, keys: Indices, logprobs: Floats, backoffs: Floats) -> Level:
        """The level of n-grams with sorted keys."""
        return cls(np.append(keys, _LAST), logprobs, np.append(backoffs, 0.0))

    def find(self, before: Indices, words: Indices, size: int) -> Indices:
        """Number of the n-gram of each word after the n-gram `before`, `NOWHERE` if it is not listed; `size` is V."""
        keys = before * size + words
        places = np.searchsorted(self.keys, keys)
        return np.where((before != NOWHERE) & (self.keys[places] == keys), places, NOWHERE)


class NgramModel(Ngram):
    """The n-grams of an ARPA file, in about 24 bytes each; see `keraslm.ngram.load_ngram`.

    Args:
        path, digest: of the file.
        words: id of each word, `<s>` and `</s>` among them.
        levels: of 1-grams to n-grams; the number of a 1-gram is the id of its word.
    """

    def __init__(self, path: Path, digest: str, words: Mapping[str, int], levels: Sequence[Level]):
        self.path, self.digest, self.order = path, digest, len(levels)
        self._begin = words[BEGIN]
        unknown = next((words[name] for name in UNKNOWNS if name in words), None)
        first = levels[0]
        if unknown is None:
            unknown = len(words)
            first = Level.of(np.arange(unknown + 1), np.append(first.logprobs, -np.inf), first.backoffs)
        self._levels = (first, *levels[1:])
        self._unknown, self._size = unknown, number_of_ids(words)
        self._ids: dict[Word, int] = {word: number for word, number in words.items() if word not in (BEGIN, END)}
        self._ids[END_OF_SENTENCE] = words[END]

    def __repr__(self) -> str:
        return f"NgramModel({str(self.path)!r}, order={self.order}, words={len(self.vocabulary)})"

    @property
    def vocabulary(self) -> Collection[str]:
        return [word for word in self._ids if word is not None and word not in UNKNOWNS]

    def knows(self, word: Word) -> bool:
        return self._ids.get(word, self._unknown) != self._unknown

    def logprobs(self, words: Sequence[Word]) -> Floats:
        ids, scored = self._with_begins(words)
        begins = ids == self._begin
        before, sums = ids, self._levels[0].logprobs[ids]
        for shorter, level in pairwise(self._levels):
            before = np.append(NOWHERE, before[:-1])  # the n-gram that ends at the previous word
            before[begins] = NOWHERE
            sums = sums + shorter.backoffs[before]
            before = level.find(before, ids, self._size)
            listed = before != NOWHERE
            sums[listed] = level.logprobs[before[listed]]
        return np.asarray(sums[scored])

    def _with_begins(self, words: Sequence[Word]) -> tuple[Indices, Indices]:
        """Ids with `<s>` before each sentence, and the places of the words among them."""
        ids, scored = [self._begin], []
        for number, word in enumerate(words, 1):
            scored.append(len(ids))
            ids.append(self._ids.get(word, self._unknown))
            if word is END_OF_SENTENCE and number < len(words):
                ids.append(self._begin)
        return np.array(ids, np.int64), np.array(scored, np.int64)
