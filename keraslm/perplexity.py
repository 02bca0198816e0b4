"""From log-probabilities to the two figures that people read: perplexity and bits."""

from __future__ import annotations

import math


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
