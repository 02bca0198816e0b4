"""What a filter has seen: counts, and the distribution of perplexity in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keraslm.filtering.criteria import Rule, Scores
from keraslm.perplexity import LARGE_UNKNOWN

_DECADES = 12
_FINE = 10_000  # bins per decade
_EASY = (
    "of the tokens are <unk>, which is easy to predict: documents of unknown words have low perplexities. A model of "
    "subwords or bytes has no <unk>"
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Distribution:
    """Counts of documents by the decimal logarithm of their perplexity, from 1 to `10 ** 12`, in steps of 0.0001.

    Attributes:
        counts: one number per step; those of larger perplexities are in the last one.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_DECADES * _FINE, np.int64)

    def add(self, perplexity: float) -> None:
        place = math.log10(max(perplexity, 1.0)) * _FINE
        self.counts[int(min(place, len(self.counts) - 1))] += 1

    def quantile(self, share: float) -> float:
        """A quantile, correct to 0.012 %; NaN without documents."""
        sums = self.counts.cumsum()
        if not sums[-1]:
            return math.nan
        return float(10 ** ((np.searchsorted(sums, share * sums[-1]) + 0.5) / _FINE))

    def histogram(self, bars: int = 60) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Counts in at most this many steps of equal width, 0.01 or more, and the logarithms at their edges."""
        (used,) = self.counts.nonzero()
        first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        width = max(-(-(last - first) // bars), _FINE // 100)
        counts = np.add.reduceat(self.counts[first:last], range(0, last - first, width))
        return counts, (first + width * np.arange(len(counts) + 1)) / _FINE


@dataclass
class FilterResult:
    """What was kept, under which rule.

    Attributes:
        rule: criteria and thresholds.
        documents: number of documents that were read.
        missing: number of those without a text, which are dropped.
        kept: number of those that were written.
        buckets: number of those that were written, by bucket.
        tokens: number of scored tokens, with end symbols.
        oovs: number of those that are `<unk>`.
        seconds: duration.
        perplexities: of all documents with a text.
    """

    rule: Rule
    documents: int = 0
    missing: int = 0
    kept: int = 0
    buckets: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    oovs: int = 0
    seconds: float = 0.0
    perplexities: Distribution = field(default_factory=Distribution, repr=False)

    @property
    def dropped(self) -> int:
        """Number of documents with a text that the criteria exclude."""
        return self.documents - self.missing - self.kept

    def add(self, scores: Scores | None, kept: bool, bucket: str) -> None:
        """Count a document; None if its text is missing."""
        self.documents += 1
        self.kept += kept
        if scores is None:
            self.missing += 1
            return
        self.tokens += scores.tokens
        self.oovs += scores.oovs
        self.perplexities.add(scores.perplexity)
        if kept and bucket:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The counts, the thresholds, the perplexities and the speed, one line each."""
        some = "1 document" if self.documents == 1 else f"{self.documents:,} documents"
        quantiles = [f"{_short(self.perplexities.quantile(share))} ({share:.0%})" for share in QUANTILES]
        rate, pace = (n / self.seconds if self.seconds else 0.0 for n in (self.tokens, self.documents))
        unknown = self.oovs / self.tokens if self.tokens else 0.0
        return [
            f"{some}: {self.kept:,} kept, {self.dropped:,} dropped, {self.missing:,} without a text",
            *self._thresholds(),
            *([f"perplexity: {', '.join(quantiles)}"] if self.documents > self.missing else []),
            f"{self.tokens:,} tokens in {self.seconds:.1f} s, {rate:,.0f} tokens and {pace:,.0f} documents per second",
            *([f"{unknown:.0%} {_EASY}"] if unknown > LARGE_UNKNOWN else []),
        ]

    def _thresholds(self) -> list[str]:
        rule, criteria = self.rule, self.rule.criteria
        of_sample = f", from the first {rule.sampled:,} documents" if rule.sampled else ""
        shown = [f"{threshold:.10g}" for threshold in rule.thresholds]
        if criteria.keep is not None:
            return [f"kept: perplexity at most {shown[0]}{of_sample}"]
        if criteria.bucket is None:
            return []
        counts = [f"{name} {self.buckets.get(name, 0):,}" for name in criteria.bucket]
        return [f"buckets: {', '.join(counts)}; cutoffs {','.join(shown)}{of_sample}"]


def _short(value: float) -> str:
    """Three digits."""
    return f"{float(f'{value:.3g}'):,g}"
