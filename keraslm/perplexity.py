"""From log-probabilities to the figures that people read: perplexity and bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


def perplexity(nats: float, tokens: int) -> float:
    """`exp(nats / tokens)`; NaN without tokens, infinity where a float64 cannot hold it.

    Args:
        nats: negative log-likelihood, natural logarithm.
        tokens: how many tokens it is the sum of.

    Example:
        >>> round(perplexity(9.2103, 2))
        100
    """
    if not tokens:
        return math.nan
    try:
        return math.exp(nats / tokens)
    except OverflowError:
        return math.inf


def bits(logprob: float) -> float:
    """Surprisal in bits of a log-probability in nats; 0.0 and not -0.0 for a certain event."""
    return -logprob / math.log(2) + 0.0


@dataclass(frozen=True)
class TextCost:
    """What a text costs under a model, and its size in every unit that the cost can be divided by.

    `docs/perplexity.md` says which of the quotients compare between which models.

    Attributes:
        lines, words, tokens, characters, bytes, oovs: see `keraslm.text.store.TextCounts`.
        predicted: tokens that were scored; less than `tokens` only in the PTB tutorial's way of counting.
        nats: negative log-likelihood of the scored tokens, natural logarithm.
        oov_nats: the part of it that the tokens `<unk>` cost.

    Example:
        >>> cost = TextCost(1, 2, 3, 8, 8, oovs=1, predicted=3, nats=6.0, oov_nats=2.0)
        >>> round(cost.perplexity, 3), round(cost.bits_per_character, 3)
        (7.389, 1.082)
    """

    lines: int
    words: int
    tokens: int
    characters: int
    bytes: int
    oovs: int
    predicted: int
    nats: float
    oov_nats: float

    @property
    def perplexity(self) -> float:
        """`exp(nats / predicted)`, a token."""
        return perplexity(self.nats, self.predicted)

    @property
    def perplexity_excluding_oovs(self) -> float:
        """The same without the tokens `<unk>` in sum and count; NaN for a text whose words are all unknown."""
        known = 0 if self.words and self.oovs >= self.tokens - self.lines else self.predicted - self.oovs
        return perplexity(self.nats - self.oov_nats, known)

    @property
    def perplexity_per_word(self) -> float:
        """`exp(nats / (words + lines))`: the end of a line is predicted, too, and counts as a word."""
        return perplexity(self._all_nats, self.words + self.lines)

    @property
    def bits_per_character(self) -> float:
        """`nats / ln 2 / characters`."""
        return _quotient(bits(-self._all_nats), self.characters)

    @property
    def bits_per_byte(self) -> float:
        """`nats / ln 2 / bytes`."""
        return _quotient(bits(-self._all_nats), self.bytes)

    @property
    def _all_nats(self) -> float:
        """Of the whole text; where not every token was predicted, the others at the same rate."""
        return self.nats * _quotient(self.tokens, self.predicted)

    def _values(self) -> dict[str, Any]:
        return vars(self) | {name: getattr(self, name) for name in QUOTIENTS}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, quotients included, for JSON, which has no NaN: None stands for it."""
        values = self._values()
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

    def rows(self) -> list[str]:
        """Lines of `name value`, for people."""
        values = self._values()
        shapes = {int: ",", float: ",.4f"}
        rows = [f"{name:<25} {format(value, shapes.get(type(value), ''))}" for name, value in values.items()]
        if self.words and self.oovs >= self.tokens - self.lines:
            rows.append("note: no word of this text is in the model's vocabulary")
        return rows


QUOTIENTS = (
    "perplexity",
    "perplexity_excluding_oovs",
    "perplexity_per_word",
    "bits_per_character",
    "bits_per_byte",
)


def _quotient(value: float, count: int) -> float:
    return value / count if count else math.nan
