"""Ensembles: the mean of the probabilities that several runs give each token.

The perplexity of an ensemble is at most the geometric mean of its members'. The runs must share one tokenizer; sizes,
cells and softmaxes may differ.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import UsageError
from keraslm.runs.run import Run


def mean_nats(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cost under the mean of probabilities.

    Args:
        members: nats of each token under each of N, `(N, ...)`.

    Example:
        >>> np.exp(-mean_nats(-np.log([[0.5], [0.1]]))).round(3)
        array([0.3])
    """
    return np.log(len(members)) - np.logaddexp.reduce(-members, axis=0)


def check_members(first: Run, others: Iterable[Run]) -> None:
    """Refuse runs of another tokenizer: their tokens are others, and so is what their probabilities are of.

    Raises:
        UsageError: names both.
    """
    for other in others:
        if other.tokenizer.digest != first.tokenizer.digest:
            raise UsageError(
                f"--with {other.path}: its tokenizer is not that of {first.path} "
                f"({other.tokenizer.vocab_size:,} and {first.tokenizer.vocab_size:,} tokens, sha256 "
                f"{other.tokenizer.digest[:8]} and {first.tokenizer.digest[:8]}). An ensemble needs runs of one "
                "tokenizer: train with --tokenizer RUN/tokenizer.json."
            )
