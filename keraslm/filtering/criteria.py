"""The documents that are kept, and their buckets, by perplexity and bits per byte.

The criteria apply to the numbers as they are written, so that they can be checked in the output: a perplexity has four
decimals, bits per byte six.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keraslm import arguments
from keraslm.errors import UsageError, shown
from keraslm.perplexity import TextCost
from keraslm.report.columns import DECIMALS

_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Scores:
    """The scores of a document, rounded as they are written."""

    perplexity: float  # per token; infinite if a token has probability 0
    bits_per_byte: float
    tokens: int  # with end symbols
    oovs: int = 0  # those of unknown words

    @classmethod
    def of(cls, cost: TextCost) -> Scores:
        found = {name: round(getattr(cost, name), DECIMALS[name]) for name in ("perplexity", "bits_per_byte")}
        return cls(**found, tokens=cost.predicted, oovs=cost.predicted_oovs)


@dataclass(frozen=True)
class Criteria:
    """What is kept; checked when built. Bounds are inclusive.

    Attributes:
        max_perplexity, min_perplexity: bounds of the perplexity per token.
        max_bits_per_byte, min_bits_per_byte: bounds of the bits per byte.
        keep: keep the documents with the lowest perplexity: this share of a sample decides the threshold.
        bucket: names of buckets, that of the lowest perplexities first; None for no buckets. All documents within the
            bounds are kept. CCNet (Wenzek et al. 2020) has three: head, middle and tail.
        cutoffs: highest perplexity of each bucket except the last. Default: those that divide a sample equally.
        sample: size of the sample, the first documents with a text.

    Raises:
        UsageError: values out of range, or that contradict each other.

    Example:
        >>> Criteria(min_perplexity=10, keep=0.3)              # of the documents from 10 on, the lower 30 %
        >>> Criteria(bucket=("head", "middle", "tail"), cutoffs=(30, 300))
    """

    max_perplexity: float | None = None
    min_perplexity: float | None = None
    max_bits_per_byte: float | None = None
    min_bits_per_byte: float | None = None
    keep: float | None = None
    bucket: Sequence[str] | None = None
    cutoffs: Sequence[float] | None = None
    sample: int = 10_000

    def __post_init__(self) -> None:
        for measure in ("perplexity", "bits_per_byte"):
            low, high = (getattr(self, f"{side}_{measure}") for side in ("min", "max"))
            for side, value in (("min", low), ("max", high)):
                if value is not None and not arguments.number(value, f"{side}_{measure}") >= 0:
                    raise UsageError(f"`{side}_{measure}` is {shown(value)}, but must be 0 or more.")
            if low is not None and high is not None and low > high:
                raise UsageError(f"`min_{measure}` is {low:g}, above `max_{measure}`, which is {high:g}.")
        if self.keep is not None and not 0 < arguments.number(self.keep, "keep") <= 1:
            raise UsageError(f"`keep` is {shown(self.keep)}, but must be a share above 0 and up to 1, such as 0.3.")
        arguments.integer(self.sample, "sample", 1)
        if self.bucket is not None:
            self._check_bucket(tuple(arguments.texts(self.bucket, "bucket")))
        elif self.cutoffs is not None:
            raise UsageError('`cutoffs` divides buckets: name them with `bucket`, such as `bucket="head,middle,tail"`.')

    def _check_bucket(self, names: tuple[str, ...]) -> None:
        if self.keep is not None:
            raise UsageError("`bucket` keeps all documents: leave out `keep`.")
        if len(names) < 2 or len({*names}) < len(names) or not all(map(_NAME.fullmatch, names)):
            raise UsageError(
                f"`bucket` is {shown(list(names))}, but two or more different names of letters and digits are expected."
            )
        object.__setattr__(self, "bucket", names)
        if self.cutoffs is None:
            return
        cutoffs = tuple(
            arguments.number(value, place) for value, place in arguments.each(self.cutoffs, "cutoffs", "numbers")
        )
        if len(cutoffs) != len(names) - 1:
            raise UsageError(
                f"`cutoffs` has {len(cutoffs)} numbers, but {len(names)} buckets need {len(names) - 1} between them."
            )
        if not all(low < high for low, high in zip((0.0, *cutoffs), (*cutoffs, math.inf), strict=True)):
            raise UsageError(f"`cutoffs` is {shown(list(cutoffs))}, but ascending perplexities are expected.")
        object.__setattr__(self, "cutoffs", cutoffs)

    @property
    def needs_sample(self) -> bool:
        return self.keep is not None or (self.bucket is not None and self.cutoffs is None)

    def within(self, scores: Scores) -> bool:
        """Whether a document is within the bounds."""
        return _between(self.min_perplexity, scores.perplexity, self.max_perplexity) and _between(
            self.min_bits_per_byte, scores.bits_per_byte, self.max_bits_per_byte
        )

    def rule(self, sample: Iterable[Scores] = ()) -> Rule:
        """The rule for all documents; `sample` is used if `needs_sample`: quantiles of what is within the bounds."""
        perplexities = sorted(scores.perplexity for scores in sample if self.within(scores))
        if self.keep is not None:
            return Rule(self, (quantile(perplexities, self.keep),), len(perplexities))
        if self.bucket is None:
            return Rule(self)
        if self.cutoffs is not None:
            return Rule(self, tuple(self.cutoffs))
        shares = [number / len(self.bucket) for number in range(1, len(self.bucket))]
        return Rule(self, tuple(quantile(perplexities, share) for share in shares), len(perplexities))


ALL = Criteria()  # keeps all documents


@dataclass(frozen=True)
class Rule:
    """Criteria with their thresholds.

    Attributes:
        thresholds: perplexities: the highest one that `keep` keeps, or the cutoffs between buckets; NaN if the sample
            was empty.
        sampled: number of documents that the thresholds are quantiles of; 0 if they were given.
    """

    criteria: Criteria
    thresholds: tuple[float, ...] = ()
    sampled: int = 0

    def keeps(self, scores: Scores) -> bool:
        below = self.criteria.keep is None or scores.perplexity <= self.thresholds[0]
        return below and self.criteria.within(scores)

    def marks(self) -> list[float]:
        """The perplexities between what is kept and what is not, and between buckets."""
        bounds = (self.criteria.min_perplexity, self.criteria.max_perplexity)
        return [value for value in (*bounds, *self.thresholds) if value and math.isfinite(value)]

    def bucket_of(self, scores: Scores) -> str:
        """The bucket of a document; empty without buckets."""
        names = self.criteria.bucket or ("",)
        cutoffs = self.thresholds if self.criteria.bucket else ()
        return names[sum(scores.perplexity > cutoff for cutoff in cutoffs)]


def quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed; NaN without values.

    It is one of the values: that of `numpy.quantile(values, share, method="inverted_cdf")`.

    Example:
        >>> quantile([10.0, 20.0, 30.0, 40.0], 0.5)
        20.0
    """
    if not ascending:
        return math.nan
    return ascending[max(math.ceil(round(share * len(ascending), 9)), 1) - 1]  # 0.07 * 100 is above 7


def _between(low: float | None, value: float, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)
