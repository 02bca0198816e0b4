"""The neural cache: words that the text used lately, where the network was in a like state, become more probable.

For each of the last N tokens the cache keeps the hidden state h_i that stood before it and the token itself. At a token
with hidden state h_t

    p_cache(w) = sum over i with token_i = w of exp(theta h_t . h_i)  /  sum over all i of exp(theta h_t . h_i)
    p(w)       = (1 - lambda) p_vocab(w) + lambda p_cache(w)

theta 0 is a unigram cache, in which all of the last N tokens count alike. Where there is no token before, at the start
of a text and of each document, the cache is silent: p = p_vocab. The cost is convex in lambda; in theta it need not be.

Only the probability of the target is needed for the cost, and the products h_t . h_i do not depend on theta, so one
matrix product a block serves all thetas and lambdas of a grid. Memory: N hidden states and a block's products.

Reference: Grave, Joulin and Usunier 2017, "Improving Neural Language Models with a Continuous Cache", arXiv:1612.04426,
section 3, the linear interpolation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.evaluation.grid import cheapest
from keraslm.evaluation.reader import Reader

WINDOW = 500  # Grave et al. 2017, section 5, on PTB; 2000 on WikiText-2
THETAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
LAMBDAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
_PRODUCTS = 1 << 21  # h_t . h_i of a block, 8 MiB

Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class CacheSettings:
    """Parameters of the cache.

    Attributes:
        window: N, tokens that it looks back on.
        theta: how sharply it prefers like states.
        share: lambda, its share in the mixture.
    """

    window: int = WINDOW
    theta: float | None = None
    share: float | None = None


class NeuralCache:
    """The last tokens of a text with their hidden states.

    Args:
        window: N, tokens that it looks back on.
        thetas: G numbers of at least 0.

    Example:
        >>> cache = NeuralCache(window=2, thetas=[0.0])
        >>> cache.step(np.ones((3, 4), np.float32), np.array([5, 5, 6]))
        array([[nan,  1.,  0.]])
    """

    def __init__(self, window: int, thetas: Values):
        self._window, self._thetas = window, np.asarray(thetas, np.float64)
        self._keys: NDArray[np.float32] | None = None
        self._tokens = np.zeros(0, np.int64)
        self._documents = np.zeros(0, np.int64)  # of each kept token, counted from 0
        self._document = 0

    def step(
        self, hidden: NDArray[np.float32], targets: NDArray[Any], starts: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Read on, and return what the cache says of each token before it knows it.

        Args:
            hidden: before each token, `(T, H)`.
            targets: the tokens, `(T,)`.
            starts: where a document starts, `(T,)`; None: nowhere.

        Returns:
            p_cache of each token at each theta, `(G, T)`; NaN where the cache is silent.
        """
        length = max(1, min(self._window, _PRODUCTS // (2 * self._window)))
        parts = range(0, len(targets), length)
        return np.concatenate(
            [
                self._block(*(None if x is None else x[i : i + length] for x in (hidden, targets, starts)))
                for i in parts
            ],
            axis=1,
        )

    def _block(self, hidden: Any, targets: Any, starts: Any) -> NDArray[np.float64]:
        self._append(hidden, targets, starts)
        assert self._keys is not None
        first, size = len(self._tokens) - len(targets), len(self._tokens)
        back = np.arange(first, size)[:, None] - np.arange(size)[None]  # [T, N + T], tokens back
        seen = (back > 0) & (back <= self._window) & (self._documents[first:, None] == self._documents)
        products = hidden @ self._keys.T  # [T, N + T]
        highest = np.where(seen, products, -np.inf).max(axis=1, initial=-np.inf)
        silent = np.isneginf(highest)
        below = np.where(seen, products - np.where(silent, 0.0, highest).astype(np.float32)[:, None], 0.0)
        weights, same = seen.astype(np.float32), (seen & (self._tokens == targets[:, None])).astype(np.float32)
        masses, powers = np.empty((len(self._thetas), len(targets))), np.empty_like(below)
        for row, theta in zip(masses, self._thetas, strict=True):
            np.exp(np.multiply(below, np.float32(theta), out=powers), out=powers)
            total, own = (np.einsum("tn,tn->t", powers, chosen) for chosen in (weights, same))
            row[:] = np.where(silent, np.nan, own / np.where(silent, 1.0, total))
        return masses

    def _append(self, hidden: Any, targets: Any, starts: Any) -> None:
        """Keep the N tokens before this block, and the block itself."""
        documents = np.full(len(targets), self._document)
        if starts is not None:
            documents += np.cumsum(starts)
            self._document = int(documents[-1])
        old = hidden[:0] if self._keys is None else self._keys[-self._window :]
        self._keys = np.concatenate([old, hidden])
        self._tokens = np.concatenate([self._tokens[-self._window :], targets])
        self._documents = np.concatenate([self._documents[-self._window :], documents])


def mixed_nats(nats: NDArray[np.float64], masses: NDArray[np.float64], share: Any) -> NDArray[np.float64]:
    """Cost under (1 - share) p_vocab + share p_cache.

    Args:
        nats: of each token under the network.
        masses: p_cache of each token; NaN where the cache is silent.
        share: lambda, 0 <= lambda < 1; all three broadcast.
    """
    silent = np.isnan(masses)
    with np.errstate(divide="ignore"):  # ln 0 = -inf is meant
        cached = np.log(share) + np.log(np.where(silent, 0.0, masses))
    return np.where(silent, nats, -np.logaddexp(np.log1p(-share) - nats, cached))


def cache_nats(
    reader: Reader, ids: NDArray[Any], settings: CacheSettings, base: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Cost of each token of a text with the cache, `(tokens,)`.

    Args:
        reader: of the run, whose hidden states the cache compares.
        ids: the text.
        settings: all three of them.
        base: cost of each token under what takes the network's place in the mixture; None: the network's own.
    """
    assert settings.theta is not None and settings.share is not None
    windows = _masses(reader, ids, settings.window, [settings.theta], base)
    return np.concatenate([mixed_nats(nats, masses[0], settings.share) for nats, masses in windows])


def tune_cache(
    reader: Reader,
    ids: NDArray[Any],
    settings: CacheSettings,
    log: Callable[[str], None],
    base: NDArray[np.float64] | None = None,
) -> CacheSettings:
    """The theta and lambda, where they are None, with which a text costs least: one pass a grid."""
    thetas = np.asarray(THETAS if settings.theta is None else [settings.theta])
    shares = np.asarray(LAMBDAS if settings.share is None else [settings.share])

    def cost(thetas: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        costs = np.zeros((len(thetas), len(shares)))
        for nats, masses in _masses(reader, ids, settings.window, thetas, base):
            costs += [[mixed_nats(nats, mass, share).sum() for share in shares] for mass in masses]
        return costs

    def told(name: str, point: tuple[float, ...]) -> None:
        log(f"neural cache  {name}: theta {point[0]:g}, lambda {point[1]:g}")

    theta, share = cheapest(cost, [thetas, shares], told)
    return replace(settings, theta=theta, share=share)


def _masses(reader: Reader, ids: NDArray[Any], window: int, thetas: Values, base: NDArray[np.float64] | None) -> Any:
    """Window by window the nats that the cache is mixed with, `(T,)`, and its masses, `(G, T)`."""
    cache, place = NeuralCache(window, thetas), 0
    for scored in reader.hidden(ids):
        assert scored.hidden is not None
        starts = None if scored.starts is None else scored.starts[0]
        masses = cache.step(scored.hidden[0], scored.targets[0], starts)
        place += masses.shape[1]
        yield scored.nats[0] if base is None else base[place - masses.shape[1] : place], masses
