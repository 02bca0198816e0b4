"""Perplexity and bits, and the type that adds up the cost of a text."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

Base = Literal["2", "e", "10"]

BASES: dict[str, float] = {"2": math.log(2), "e": 1.0, "10": math.log(10)}  # of logarithms; nats per unit
UNITS: dict[str, str] = {"2": "bits", "e": "nats", "10": "hartleys"}  # of logarithms in each base
LARGE_UNKNOWN = 0.1  # share of <unk> from which a perplexity is not that of the text
QUOTIENTS = (
    "perplexity",
    "bits_per_token",
    "perplexity_excluding_oovs",
    "perplexity_per_word",
    "bits_per_character",
    "bits_per_byte",
)


def perplexity(cost: float, tokens: int, base: Base = "e") -> float:
    """`base ** (cost / tokens)`; NaN without tokens, infinity if a float64 cannot hold the result.

    Args:
        cost: negative log-likelihood of all tokens, as a logarithm in `base`.
        tokens: number of tokens.

    Example:
        >>> round(perplexity(9.2103, 2))
        100
    """
    if tokens <= 0:
        return math.nan
    try:
        return math.exp(cost / tokens) if base == "e" else float(base) ** (cost / tokens)
    except OverflowError:
        return math.inf


def bits(logprob: float) -> float:
    """Surprisal in bits of a log-probability in nats; 0.0, not -0.0, for a certain event."""
    return -logprob / BASES["2"] + 0.0


@dataclass(frozen=True)
class TokenCost:
    """The number of some tokens and what the same tokens cost; a cost is divided by a number of tokens only here.

    Example:
        >>> known = TokenCost(3, nats=6.0) - TokenCost(1, nats=2.0)
        >>> known, round(known.perplexity, 3)
        (TokenCost(tokens=2, nats=4.0), 7.389)
    """

    tokens: int
    nats: float  # negative log-likelihood, natural logarithm

    def __sub__(self, part: TokenCost) -> TokenCost:
        return TokenCost(self.tokens - part.tokens, self.nats - part.nats)

    @property
    def perplexity(self) -> float:
        """Per token: `exp(nats / tokens)`."""
        return perplexity(self.nats, self.tokens)

    def of(self, tokens: int) -> float:
        """Nats of a number of tokens with the same mean cost; NaN without tokens."""
        return self.nats if tokens == self.tokens > 0 else _quotient(self.nats, self.tokens) * tokens


@dataclass(frozen=True)
class TextCost:
    """The cost of a text under a model, and every count that the cost can be divided by.

    Costs of lines add up to the cost of their text. `docs/explanation/perplexity.md` describes which quotients are
    comparable.

    Attributes:
        lines, words, tokens, characters, bytes, oovs: see `keraslm.text.store.TextCounts`.
        predicted: number of scored tokens; less than `tokens` only when counting as the PTB tutorial does.
        predicted_oovs: number of scored tokens that are `<unk>`.
        nats: negative log-likelihood of the scored tokens, natural logarithm.
        oov_nats: the part of `nats` that comes from the tokens `<unk>`.

    Example:
        >>> cost = TextCost(1, 2, 3, 8, 8, oovs=1, predicted=3, predicted_oovs=1, nats=6.0, oov_nats=2.0)
        >>> round(cost.perplexity, 3), round(cost.bits_per_character, 3)
        (7.389, 1.082)
        >>> (cost + cost).tokens, round((cost + cost).perplexity, 3)
        (6, 7.389)
    """

    lines: int = 0
    words: int = 0
    tokens: int = 0
    characters: int = 0
    bytes: int = 0
    oovs: int = 0
    predicted: int = 0
    predicted_oovs: int = 0
    nats: float = 0.0
    oov_nats: float = 0.0

    def __add__(self, other: TextCost) -> TextCost:
        if not isinstance(other, TextCost):
            return NotImplemented
        return TextCost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(TextCost)))

    @property
    def scored(self) -> TokenCost:
        """The scored tokens."""
        return TokenCost(self.predicted, self.nats)

    @property
    def scored_oovs(self) -> TokenCost:
        """The scored tokens that are `<unk>`."""
        return TokenCost(self.predicted_oovs, self.oov_nats)

    @property
    def perplexity(self) -> float:
        """Per token: `exp(nats / predicted)`."""
        return self.scored.perplexity

    @property
    def perplexity_excluding_oovs(self) -> float:
        """Per token, without the tokens `<unk>` in sum and count; NaN if every word of the text is unknown."""
        return math.nan if self._all_unknown else (self.scored - self.scored_oovs).perplexity

    @property
    def perplexity_per_word(self) -> float:
        """`exp(nats / (words + lines))`: the end of a line is predicted too, and counts as a word."""
        return perplexity(self._all_nats, self.words + self.lines)

    @property
    def bits_per_token(self) -> float:
        """`nats / ln 2 / predicted`: the base-2 logarithm of `perplexity`."""
        return _quotient(bits(-self.nats), self.predicted)

    @property
    def bits_per_character(self) -> float:
        """`nats / ln 2 / characters`."""
        return _quotient(bits(-self._all_nats), self.characters)

    @property
    def bits_per_byte(self) -> float:
        """`nats / ln 2 / bytes`."""
        return _quotient(bits(-self._all_nats), self.bytes)

    @property
    def _all_unknown(self) -> bool:
        return self.words > 0 and self.oovs >= self.tokens - self.lines

    @property
    def _all_nats(self) -> float:
        """Of the complete text; tokens that were not predicted are assumed to cost as much as the others."""
        return self.scored.of(self.tokens)

    def _values(self) -> dict[str, Any]:
        return vars(self) | {name: getattr(self, name) for name in QUOTIENTS}

    def to_dict(self) -> dict[str, Any]:
        """Counts, sums and quotients as plain values for JSON; None for NaN and infinity."""
        values = self._values()
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

    def rows(self) -> list[str]:
        """Lines of `name value`; `predicted_oovs` only if it may differ from `oovs`."""
        shapes, values = {int: ",", float: ",.4f"}, self._values()
        if self.predicted == self.tokens:
            del values["predicted_oovs"]
        rows = [f"{name:<25} {format(value, shapes.get(type(value), ''))}" for name, value in values.items()]
        share = _quotient(self.oovs, self.tokens - self.lines)
        if self._all_unknown:
            rows.append("note: no word of this text is in the model's vocabulary")
        elif share > LARGE_UNKNOWN:
            rows.append(f"note: {100 * share:.0f} % of the tokens in lines are <unk>, which is easy to predict")
        return rows


def _quotient(value: float, count: int) -> float:
    return value / count if count else math.nan
