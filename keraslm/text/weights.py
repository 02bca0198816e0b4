"""Which parts of each training text an epoch reads, by `train_weights`.

A weight is a fraction p/q. The text is cut into q pieces of about equal length, and an epoch reads the next p of them;
after the last piece comes the first one. So q epochs read every token exactly p times:

    weight   pieces      epoch 1   epoch 2   epoch 3
    2        A           A A       A A       A A
    1/2      A B         A         B         A
    3/2      A B         A B A     B A B     A B A

A piece ends at the first line end at or after j/q of the tokens; with the context `"paragraph"`, at the end of a
paragraph. So epochs differ in length by a few lines or a paragraph. The windows of each epoch are cut from as many
tokens as the shortest epoch has; the others leave their last tokens out.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError
from keraslm.text.context import context_ends

_LARGEST_DENOMINATOR = 1000


def fraction_of(weight: float) -> Fraction:
    """The nearest fraction with a denominator of at most 1000.

    Example:
        >>> fraction_of(0.5), fraction_of(0.333), fraction_of(0.3333)
        (Fraction(1, 2), Fraction(333, 1000), Fraction(1, 3))
    """
    return Fraction(weight).limit_denominator(_LARGEST_DENOMINATOR)


class WeightedTexts:
    """The parts of a stream that each epoch reads.

    Args:
        ids: the stream, `(tokens,)`: the texts in order.
        sizes: tokens of each text.
        weights: of each text.
        names: of each text, for messages.
        eos_id: the end symbol.
        context: `"document"`, `"sentence"` or `"paragraph"`.

    Raises:
        TextError: a text is empty, or has too few lines or paragraphs for its number of pieces.

    Attributes:
        starts: where each text begins in the stream.
        tokens: number of tokens of the shortest epoch.

    Example:
        >>> texts = WeightedTexts(np.array([5, 0, 6, 7, 0, 8, 0]), [5, 2], [0.5, 2], ["a", "b"], eos_id=0)
        >>> texts.tokens, texts.segments(0).tolist(), texts.segments(1).tolist()
        (6, [[0, 5], [5, 7], [5, 7]], [[2, 5], [5, 7], [5, 7]])
    """

    def __init__(
        self,
        ids: NDArray[Any],
        sizes: Sequence[int],
        weights: Sequence[float],
        names: Sequence[str],
        eos_id: int,
        context: str = "document",
    ):
        self._weights, self._names = [fraction_of(weight) for weight in weights], names
        self._cuts = []  # of each text: where its pieces begin and end in the stream, (q + 1,)
        edges = pairwise(accumulate(sizes, initial=0))
        for (start, end), weight, name in zip(edges, self._weights, names, strict=True):
            if start == end:
                raise TextError(f"{name}: the text is empty, so it cannot be read by `train_weights`.")
            cuts = _cuts(ids[start:end], weight.denominator, eos_id, context)
            if not np.diff(cuts).all():
                raise TextError(_too_few(name, weight, context))
            self._cuts.append(start + cuts)
        self.starts = [int(cuts[0]) for cuts in self._cuts]
        self.tokens = sum(map(_shortest, self._cuts, self._weights))

    def __str__(self) -> str:
        return ", ".join(f"{weight} x {name}" for weight, name in zip(self._weights, self._names, strict=True))

    def segments(self, epoch: int) -> NDArray[np.int64]:
        """Start and end in the stream of each piece of an epoch, counted from 0, in order, `(pieces, 2)`."""
        found = []
        for cuts, weight in zip(self._cuts, self._weights, strict=True):
            pieces = _pieces(epoch, weight)
            found.append(np.stack([cuts[pieces], cuts[pieces + 1]], axis=1))
        return np.concatenate(found)


def _cuts(ids: NDArray[Any], count: int, eos_id: int, context: str) -> NDArray[np.int64]:
    """Where `count` pieces of a text begin and end, `(count + 1,)`."""
    if count == 1:
        return np.array([0, len(ids)])
    ends = context_ends(ids, eos_id, "sentence" if context == "document" else context)
    possible = np.unique(np.concatenate([[0], ends, [len(ids)]]))
    return possible[np.searchsorted(possible, len(ids) * np.arange(count + 1) // count)]


def _pieces(epoch: int, weight: Fraction) -> NDArray[np.int64]:
    p, q = weight.numerator, weight.denominator
    return (epoch * p + np.arange(p)) % q


def _shortest(cuts: NDArray[np.int64], weight: Fraction) -> int:
    """The smallest number of tokens of an epoch; after q epochs, the pieces are the same again."""
    rounds, rest = divmod(weight.numerator, weight.denominator)
    starts = np.arange(weight.denominator)
    ends = starts + rest
    size = cuts[-1] - cuts[0]
    reached = cuts[ends % weight.denominator] + size * (ends // weight.denominator)
    return int(rounds * size + (reached - cuts[starts]).min())


def _too_few(name: str, weight: Fraction, context: str) -> str:
    units = "paragraphs" if context == "paragraph" else "lines"
    return (
        f"{name}: `train_weights` reads {weight} of the text per epoch, but it has too few {units} for "
        f"{weight.denominator} pieces of equal length. Use a weight with fewer decimals, or a longer text."
    )
