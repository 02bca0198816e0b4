"""The neural cache: words that occurred recently in similar contexts become more probable.

The history contains the last N tokens, each with the hidden state h_i before it. At a token with hidden state h_t

    p_cache(w) = sum over i with token_i = w of exp(theta h_t . h_i)  /  sum over all i of exp(theta h_t . h_i)
    p(w)       = (1 - lambda) p_vocab(w) + lambda p_cache(w)

With theta 0, all N tokens have the same weight. If the history is empty, as at the start of a text and wherever the
state starts from zeros, p = p_vocab. One matrix product per block of tokens serves all thetas and lambdas of a grid.

Reference: Grave, Joulin and Usunier 2017, "Improving Neural Language Models with a Continuous Cache", arXiv:1612.04426,
section 3, the linear interpolation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.evaluation.grid import cheapest
from keraslm.evaluation.reader import Reader
from keraslm.system import Log

HISTORY = 500  # Grave et al. 2017, section 5, on PTB; 2000 on WikiText-2
THETAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
LAMBDAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
_PRODUCTS = 1 << 21  # products per block, 8 MiB

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CacheSettings:
    """Parameters of the cache; a theta or share of None is tuned."""

    history: int = HISTORY  # N
    theta: float | None = None
    share: float | None = None  # lambda


class NeuralCache:
    """The last N tokens of a text with their hidden states; `thetas` are G numbers of at least 0."""

    def __init__(self, history: int, thetas: Sequence[float] | Floats):
        self._history, self._thetas = history, np.asarray(thetas, np.float64)
        self._keys: NDArray[np.float32] | None = None
        self._tokens = np.zeros(0, np.int64)
        self._contexts = np.zeros(0, np.int64)  # of each token, counted from 0: its sentence, paragraph or document
        self._context = 0

    def step(
        self, hidden: NDArray[np.float32], targets: NDArray[Any], starts: NDArray[np.bool_] | None = None
    ) -> Floats:
        """Add tokens to the history; return the probability of each under the cache before it was added.

        `hidden` are the hidden states before each token, `(T, H)`; `starts` is where the history is emptied, `(T,)`.
        The result is p_cache of each token at each theta, `(G, T)`; NaN if the history is empty.
        """
        length = max(1, min(self._history, _PRODUCTS // (2 * self._history)))
        blocks = [slice(i, i + length) for i in range(0, len(targets), length)]
        return np.concatenate(
            [self._block(hidden[b], targets[b], None if starts is None else starts[b]) for b in blocks], axis=1
        )

    def _block(self, hidden: Any, targets: Any, starts: Any) -> Floats:
        keys = self._append(hidden, targets, starts)
        first, size = len(self._tokens) - len(targets), len(self._tokens)
        back = np.arange(first, size)[:, None] - np.arange(size)[None]  # [T, N + T], tokens back
        seen = (back > 0) & (back <= self._history) & (self._contexts[first:, None] == self._contexts)
        products = hidden @ keys.T  # [T, N + T]
        highest = np.where(seen, products, -np.inf).max(axis=1, initial=-np.inf)
        empty = np.isneginf(highest)
        below = np.where(seen, products - np.where(empty, 0.0, highest).astype(np.float32)[:, None], 0.0)
        weights, same = seen.astype(np.float32), (seen & (self._tokens == targets[:, None])).astype(np.float32)
        masses, powers = np.empty((len(self._thetas), len(targets))), np.empty_like(below)
        for row, theta in zip(masses, self._thetas, strict=True):
            np.exp(np.multiply(below, np.float32(theta), out=powers), out=powers)
            total, own = (np.einsum("tn,tn->t", powers, chosen) for chosen in (weights, same))
            row[:] = np.where(empty, np.nan, own / np.where(empty, 1.0, total))
        return masses

    def _append(self, hidden: Any, targets: Any, starts: Any) -> NDArray[np.float32]:
        """Keep the last N tokens and add a block; return their hidden states."""
        contexts = np.full(len(targets), self._context)
        if starts is not None:
            contexts += np.cumsum(starts)
            self._context = int(contexts[-1])
        old = hidden[:0] if self._keys is None else self._keys[-self._history :]
        self._keys = np.concatenate([old, hidden])
        self._tokens = np.concatenate([self._tokens[-self._history :], targets])
        self._contexts = np.concatenate([self._contexts[-self._history :], contexts])
        return self._keys


def mixed_nats(nats: Floats, masses: Floats, share: Any) -> Floats:
    """Cost under (1 - share) p_vocab + share p_cache; p_cache are the masses, NaN if the history is empty."""
    empty = np.isnan(masses)
    with np.errstate(divide="ignore"):  # log(0) = -inf is the right value
        cached = np.log(share) + np.log(np.where(empty, 0.0, masses))
    return np.where(empty, nats, -np.logaddexp(np.log1p(-share) - nats, cached))


def cache_nats(reader: Reader, ids: NDArray[Any], settings: CacheSettings, base: Floats | None = None) -> Floats:
    """Cost of each token of a text with the cache, `(tokens,)`; `base` replaces the cost under the network."""
    assert settings.theta is not None
    windows = _masses(reader, ids, settings.history, [settings.theta], base)
    return np.concatenate([mixed_nats(nats, masses[0], settings.share) for nats, masses in windows])


def tune_cache(
    reader: Reader, ids: NDArray[Any], settings: CacheSettings, log: Log, base: Floats | None = None
) -> CacheSettings:
    """Replace a theta and share of None by those with the lowest cost of a text, in two passes."""
    grids = [np.asarray(THETAS if settings.theta is None else [settings.theta])]
    grids.append(np.asarray(LAMBDAS if settings.share is None else [settings.share]))

    def cost(thetas: Floats, shares: Floats) -> Floats:
        costs = np.zeros((len(thetas), len(shares)))
        for nats, masses in _masses(reader, ids, settings.history, thetas, base):
            costs += [[mixed_nats(nats, mass, share).sum() for share in shares] for mass in masses]
        return costs

    found = "neural cache  {}: theta {:g}, lambda {:g}".format
    theta, share = cheapest(cost, grids, lambda name, point: log(found(name, *point)))
    return replace(settings, theta=theta, share=share)


def _masses(
    reader: Reader, ids: NDArray[Any], history: int, thetas: Sequence[float] | Floats, base: Floats | None
) -> Iterator[tuple[Floats, Floats]]:
    """The nats without the cache, `(T,)`, and the masses of the cache, `(G, T)`, of each window."""
    cache, place = NeuralCache(history, thetas), 0
    for scored in reader.hidden(ids):
        assert scored.hidden is not None
        masses = cache.step(scored.hidden[0], scored.targets[0], None if scored.starts is None else scored.starts[0])
        end = place + masses.shape[1]
        yield scored.nats[0] if base is None else base[place:end], masses
        place = end
