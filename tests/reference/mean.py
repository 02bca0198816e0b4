"""Means, in float64 and without care for speed."""

from __future__ import annotations

import numpy as np


def log_mean_exp(logprobs):
    """log (1/M * sum over m of exp(logprobs[m])), `(M, ...)` to `(...)`, in extended precision and range."""
    with np.errstate(divide="ignore"):
        return np.log(np.mean(np.exp(np.asarray(logprobs, np.longdouble)), axis=0)).astype(np.float64)


def mean_of_weights(members):
    """The mean of each tensor over several dictionaries of them."""
    return {name: np.mean([np.asarray(own[name], np.float64) for own in members], axis=0) for name in members[0]}
