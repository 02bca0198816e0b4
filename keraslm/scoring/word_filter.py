"""Words that may be predicted: those of a list, or all but those of a list.

A word is the bytes that its tokens write. A word vocabulary is filtered by token. A search over several tokens follows
only beginnings of allowed words, and knows which tokens complete an excluded word: longer words may begin with it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import islice, takewhile

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.text.pieces import word_spans
from keraslm.text.surfaces import Surfaces

Words = Iterable[str]
_REMEMBERED = 1 << 12  # beginnings of words whose tokens are kept


class WordFilter:
    """A filter of words for one vocabulary.

    Words are compared as the tokenizer reads them, in lower case if it does so. Words that it cannot write, and entries
    with white space, have no effect.

    Args:
        surfaces: of the vocabulary.
        allowed: the only words that may be predicted; None means all.
        exclude: words that may not be predicted.

    Attributes:
        only: whether `words` are those that may be predicted, otherwise those that may not.
        words: what the words write, ordered.

    Raises:
        ArgumentTypeError: an item that is no string.
    """

    def __init__(self, surfaces: Surfaces, allowed: Words | None, exclude: Words):
        self._surfaces, self.only = surfaces, allowed is not None
        words = self._written(exclude, "exclude")
        if allowed is not None:
            words = self._written(allowed, "allowed") - words
        self.words, self._known = sorted(words), words
        self.tokens_after = lru_cache(_REMEMBERED)(self._tokens_after)

    def allows(self, word: bytes) -> bool:
        return (word in self._known) == self.only

    @cached_property
    def tokens(self) -> NDArray[np.bool_]:
        """Which tokens of a word vocabulary may be predicted, bool `(V,)`."""
        marks = np.zeros(len(self._surfaces.of), np.bool_)
        marks[self._ids(self.words)] = True
        return marks if self.only else ~marks

    def _tokens_after(self, space: bytes, part: bytes, written: bytes) -> NDArray[np.int64]:
        """Tokens that continue what is written so far, kept for the next call.

        With `allowed`, those that continue towards an allowed word; otherwise those that complete an excluded one.

        Args:
            space: white space before the word.
            part: beginning of the word that is given.
            written: a part of `space`, or `space` and a beginning of the word.
        """
        start = max(part, written[len(space) :], key=len)
        rests = ((space + word)[len(written) :] for word in self._starting_with(start))
        if not self.only:
            return self._ids(filter(None, rests))
        longest = self._surfaces.longest
        pieces = {rest[:end] for rest in rests for end in range(1, min(len(rest), longest) + 1)}
        return self._ids(sorted(pieces))

    def _starting_with(self, start: bytes) -> Iterator[bytes]:
        first = bisect_left(self.words, start)
        return takewhile(lambda word: word.startswith(start), islice(self.words, first, None))

    def _ids(self, surfaces: Iterable[bytes]) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *map(self._surfaces.equal_to, surfaces)])

    def _written(self, words: Words, name: str) -> set[bytes]:
        found = (word for word in arguments.texts(words, name) if word_spans(word) == [(0, len(word))])
        return {self._surfaces.read(word, " ", False)[1] for word in found} - {b""}


def word_filter(surfaces: Surfaces, allowed: Words | None, exclude: Words) -> WordFilter | None:
    """A filter, or None if every word may be predicted. It is made once for the same `frozenset`s."""
    if allowed is None and isinstance(exclude, tuple | frozenset) and not exclude:
        return None
    return _made(surfaces, None if allowed is None else _fixed(allowed, "allowed"), _fixed(exclude, "exclude"))


def _fixed(words: Words, name: str) -> frozenset[str]:
    return words if isinstance(words, frozenset) else frozenset(arguments.texts(words, name))


@lru_cache(4)
def _made(surfaces: Surfaces, allowed: frozenset[str] | None, exclude: frozenset[str]) -> WordFilter:
    return WordFilter(surfaces, allowed, exclude)
