"""Updates of weights by the formulas of the papers, in float64."""

from __future__ import annotations

import numpy as np


def norm_of(gradients):
    return np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))


def clipped(gradients, clip_norm):
    factor = min(1.0, clip_norm / norm_of(gradients)) if clip_norm else 1.0
    return [factor * g.astype(np.float64) for g in gradients]


def sgd(weights, steps, rates, clip_norm=None, decay=0.0):
    """The weights after each step; `rates` has one number per step."""
    iterates, weights = [], [w.astype(np.float64) for w in weights]
    for gradients, rate in zip(steps, rates, strict=True):
        gradients = clipped(gradients, clip_norm)
        weights = [w - rate * (g + decay * w) for w, g in zip(weights, gradients, strict=True)]
        iterates.append(weights)
    return iterates


def adamw(weights, steps, rates, clip_norm=None, decay=0.0, beta_1=0.9, beta_2=0.999):
    """Loshchilov and Hutter 2019, algorithm 2, with the clipping before it."""
    iterates, weights = [], [w.astype(np.float64) for w in weights]
    means, squares = ([np.zeros_like(w) for w in weights] for _ in range(2))
    for step, (gradients, rate) in enumerate(zip(steps, rates, strict=True), start=1):
        gradients = clipped(gradients, clip_norm)
        means = [beta_1 * m + (1 - beta_1) * g for m, g in zip(means, gradients, strict=True)]
        squares = [beta_2 * v + (1 - beta_2) * g**2 for v, g in zip(squares, gradients, strict=True)]
        moments = [
            m / (1 - beta_1**step) / (np.sqrt(v / (1 - beta_2**step)) + 1e-8)
            for m, v in zip(means, squares, strict=True)
        ]
        weights = [w - rate * (m + decay * w) for w, m in zip(weights, moments, strict=True)]
        iterates.append(weights)
    return iterates
