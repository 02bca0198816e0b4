"""Measures of tokens, and the scores of a line.

Dimensions: `N` rows, `T` steps, `V` vocabulary, `M` measures: logprob; then rank, entropy, and in complete rows entropy
reduction; then two log-probabilities of word boundaries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.perplexity import TextCost
from keraslm.text.encoders import Ids
from keraslm.text.pieces import count_words

Floats = NDArray[np.float64]
Measures = Floats  # [M, ...]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Wanted:
    """Measures in addition to log-probabilities: rank and entropy, and boundaries if `boundary` is given, `(V,)`."""

    distributions: bool = False
    boundary: Flags | None = None

    @property
    def everything(self) -> bool:
        return self.distributions or self.boundary is not None

    @property
    def count(self) -> int:
        """Number of measures of a call; entropy reductions are computed from them later."""
        return 1 + 2 * self.everything + 2 * (self.boundary is not None)


@dataclass(frozen=True, repr=False)
class LineScore:
    """The scores of one line.

    Attributes:
        text: the line, without its end.
        ids: of its tokens, the end symbol last; int32 `(tokens,)`.
        logprobs: natural logarithm of each token's probability given all previous tokens; float64 `(tokens,)`.
        oov: which tokens are `<unk>`; bool `(tokens,)`.
        ranks: of each token, 1 for the most probable; int64 `(tokens,)`. This and the next two: with `distributions`.
        entropies: of the distribution of each token, nats; float64 `(tokens,)`.
        entropy_reductions: decrease of that entropy since the previous token, nats; 0 for an increase and at the start
            of a text (Hale 2006); float64 `(tokens,)`.
        boundaries: before each token, log-probabilities that a word ends (a token of `boundary` follows), and that a
            line begins (the end symbol or a different token follows); float64 `(2, tokens)`. With `boundary`.
        given: text directly before `text` on which the scores are conditional; its tokens are not included.
        bos: whether the first token was predicted; if not, its log-probability is NaN and sums leave it out.
        eos: whether the end symbol is included.
        by_words: whether each "token" is a word between white space, as in a mixture of a subword model with an n-gram
            model; its id is that of the word's first token.
    """

    text: str
    ids: Ids
    logprobs: NDArray[np.float64]
    oov: NDArray[np.bool_]
    ranks: NDArray[np.int64] | None = None
    entropies: NDArray[np.float64] | None = None
    entropy_reductions: NDArray[np.float64] | None = None
    boundaries: NDArray[np.float64] | None = None
    given: str = ""
    bos: bool = True
    eos: bool = True
    by_words: bool = False

    def __repr__(self) -> str:
        return f"LineScore({self.text!r:.60}, tokens={len(self.ids)}, logprob={self.logprob:.6g})"

    @property
    def logprob(self) -> float:
        """Sum over the line, nats."""
        return math.fsum(self.logprobs[self.counted])

    @property
    def cost(self) -> TextCost:
        """Of the line, with its counts; costs of lines add up to the cost of a text."""
        counted = self.counted
        oov, tokens = self.oov & counted, len(self.ids)
        sizes = (int(self.eos), self.words, tokens, self.characters, self.bytes, int(self.oov.sum()))
        scored = (int(counted.sum()), int(oov.sum()))
        return TextCost(*sizes, *scored, nats=-self.logprob, oov_nats=-math.fsum(self.logprobs[oov]))

    @property
    def counted(self) -> Flags:
        """Which tokens sums and counts include; bool `(tokens,)`.

        All, except those that `without_oovs` has left out, and the first one if it was not predicted.
        """
        may_lack = self.oov.copy()
        may_lack[:1] |= not self.bos
        return ~(may_lack & np.isnan(self.logprobs))

    def without_oovs(self) -> LineScore:
        """The same scores with NaN for each token `<unk>`, which `logprob` and `cost` then leave out."""
        return replace(self, logprobs=np.where(self.oov, np.nan, self.logprobs))

    @property
    def words(self) -> int:
        return count_words(self.text)

    def part(self, tokens: slice) -> LineScore:
        """The scores of some tokens, with the text of the complete line."""
        own: dict[str, Any] = {k: v[..., tokens] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **own)

    @property
    def characters(self) -> int:
        """Number of characters; the line end, if it is included, counts as one."""
        return len(self.text) + self.eos

    @property
    def bytes(self) -> int:
        """Number of bytes in UTF-8; the line end, if it is included, counts as one."""
        return len(self.text.encode("utf-8", "surrogatepass")) + self.eos


def line_score(text: str, ids: Ids, oov: Flags, measures: Measures, bos: bool = True) -> LineScore:
    """The scores of a line from the measures of its tokens, `(M, tokens)`."""
    scores = LineScore(text, ids, measures[0], oov, bos=bos)
    if len(measures) == 1:
        return scores
    ranks, (entropies, reductions) = np.nan_to_num(measures[1]).astype(np.int64), measures[2:4]
    boundaries = measures[4:] if len(measures) > 4 else None
    return replace(scores, ranks=ranks, entropies=entropies, entropy_reductions=reductions, boundaries=boundaries)


def measure(log_probs: NDArray[np.float32], targets: NDArray[np.int64], wanted: Wanted, eos_id: int) -> Measures:
    """Log-probability, rank, entropy and boundaries `(M, N, T)` of targets `(N, T)` with distributions `(N, T, V)`."""
    own = np.take_along_axis(log_probs, targets[..., None], axis=2)  # [N, T, 1]
    ranks = 1 + np.count_nonzero(log_probs > own, axis=2)
    probabilities = np.exp(log_probs)
    entropies = -np.einsum("ntv,ntv->nt", probabilities, log_probs, dtype=np.float64)
    measures = [own[..., 0], ranks, entropies]
    if wanted.boundary is not None:
        over = probabilities[..., wanted.boundary].sum(-1, dtype=np.float64)
        begins = probabilities[..., ~wanted.boundary].sum(-1, dtype=np.float64) + probabilities[..., eos_id]
        measures += [np.log(over), np.log(begins)]
    return np.stack([found.astype(np.float64) for found in measures])


def largest(values: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Places of the `count` >= 1 largest values `(V,)`, the largest first, ties by place; sorts no others."""
    places = np.arange(len(values))
    if count < len(values):
        places = np.flatnonzero(values >= np.partition(values, -count)[-count])
    return places[np.argsort(-values[places], kind="stable")][:count]


def with_reductions(measures: Measures, before: float) -> Measures:
    """Insert entropy reductions after entropies, if there are any; `before` is the previous entropy, or NaN."""
    if len(measures) == 1:
        return measures
    previous = np.concatenate([[before], measures[2, :-1]])
    return np.insert(measures, 3, np.fmax(previous - measures[2], 0.0), axis=0)


def times(factor: float, logprobs: Floats) -> Floats:
    """The product, in which a factor of 0 leaves out log-probabilities of -inf too, instead of making them NaN."""
    return factor * logprobs if factor else np.zeros_like(logprobs)
