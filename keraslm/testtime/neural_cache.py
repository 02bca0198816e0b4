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

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1  # a token that has not been read yet
_PRODUCTS = 1 << 21  # products per block, 8 MiB

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]


class NeuralCache:
    """The last N tokens of a text with their hidden states; `thetas` are G numbers of at least 0."""

    def __init__(self, history: int, thetas: Sequence[float] | Floats):
        self._history, self._thetas = history, np.minimum(thetas, np.finfo(np.float32).max, dtype=np.float64)
        self._keys: Floats32 | None = None
        self._tokens = np.zeros(0, np.int64)
        self._contexts = np.zeros(0, np.int64)  # of each token, counted from 0: its sentence, paragraph or document
        self._context = 0

    def step(
        self,
        hidden: Floats32,
        targets: NDArray[Any],
        starts: NDArray[np.bool_] | None = None,
        following: NDArray[Any] | None = None,
    ) -> Floats:
        """Add tokens to the history; return the probability of each target under the cache before it was added.

        Args:
            hidden: hidden states before each target, `(T, H)`.
            targets: tokens whose probability is computed, integers `(T,)`.
            starts: where the history is emptied, `(T,)`.
            following: the tokens that are added, `(T,)`; by default the targets.

        Returns:
            p_cache of each target at each theta, `(G, T)`; NaN if the history is empty.
        """
        added = targets if following is None else following
        blocks = self._blocks(len(targets))
        return np.concatenate(
            [self._block(hidden[b], targets[b], None if starts is None else starts[b], added[b]) for b in blocks],
            axis=1,
        )

    def distributions(
        self, hidden: Floats32, following: NDArray[Any]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Floats]]:
        """Add tokens as `step` does; yield the distributions before each of them, at the first theta.

        Yields:
            part by part, the numbers of the steps whose history is not empty `(n,)`, the different tokens of the
            histories `(w,)`, and p_cache of each token at each of these steps, `(n, w)`. It is 0 for all other tokens.
        """
        for block in self._blocks(len(following)):
            seen, below = self._compared(hidden[block], following[block], None)
            filled = np.flatnonzero(seen.any(axis=1))
            powers = np.where(seen[filled], np.exp(below[filled] * np.float32(self._thetas[0])), np.float32(0))
            order = np.argsort(self._tokens, kind="stable")
            words, firsts = np.unique(self._tokens[order], return_index=True)
            sums = np.add.reduceat(powers[:, order], firsts, axis=1, dtype=np.float64)
            known = words != UNKNOWN  # the last one, which no step has seen
            yield block.start + filled, words[known], (sums / sums.sum(axis=1, keepdims=True))[:, known]

    def read(self, token: int) -> None:
        """Replace the last token, if it was `UNKNOWN` when its hidden state was added."""
        if len(self._tokens):
            self._tokens = np.append(self._tokens[:-1], token)

    def copy(self) -> NeuralCache:
        """A cache with the same history, to which other tokens can be added."""
        return copy.copy(self)  # no array is ever changed in place

    @property
    def key(self) -> tuple[bytes, bytes]:
        """The bytes of the history: equal for equal ones."""
        keys = b"" if self._keys is None else (self._keys[-self._history :] + 0).tobytes()  # 0 turns -0.0 into 0.0
        return keys, self._tokens[-self._history :].tobytes()

    def _blocks(self, steps: int) -> list[slice]:
        length = max(1, min(self._history, _PRODUCTS // (2 * self._history)))
        return [slice(i, i + length) for i in range(0, steps, length)]

    def _block(self, hidden: Any, targets: Any, starts: Any, following: Any) -> Floats:
        seen, below = self._compared(hidden, following, starts)
        empty = ~seen.any(axis=1)
        weights, same = seen.astype(np.float32), (seen & (self._tokens == targets[:, None])).astype(np.float32)
        masses, powers = np.empty((len(self._thetas), len(targets))), np.empty_like(below)
        for row, theta in zip(masses, self._thetas, strict=True):
            np.exp(np.multiply(below, np.float32(theta), out=powers), out=powers)
            total, own = (np.einsum("tn,tn->t", powers, chosen) for chosen in (weights, same))
            row[:] = np.where(empty, np.nan, own / np.where(empty, 1.0, total))
        return masses

    def _compared(self, hidden: Any, following: Any, starts: Any) -> tuple[NDArray[np.bool_], Floats32]:
        """Add a block of T tokens to the history, which then has n of them.

        Returns:
            which of them each step sees, `(T, n)`; and the products of the hidden states, less the highest one that the
            step sees, `(T, n)`.
        """
        keys = self._append(hidden, following, starts)
        first, size = len(self._tokens) - len(following), len(self._tokens)
        back = np.arange(first, size)[:, None] - np.arange(size)[None]  # [T, n], tokens back
        seen = (back > 0) & (back <= self._history) & (self._contexts[first:, None] == self._contexts)
        products = hidden @ keys.T
        highest = np.where(seen, products, -np.inf).max(axis=1, initial=-np.inf)
        highest = np.where(np.isneginf(highest), 0.0, highest).astype(np.float32)
        return seen, np.where(seen, products - highest[:, None], np.float32(0))

    def _append(self, hidden: Any, following: Any, starts: Any) -> Floats32:
        """Keep the last N tokens and add a block; return their hidden states."""
        contexts = np.full(len(following), self._context)
        if starts is not None:
            contexts += np.cumsum(starts)
            self._context = int(contexts[-1])
        old = hidden[:0] if self._keys is None else self._keys[-self._history :]
        self._keys = np.concatenate([old, hidden])
        self._tokens = np.concatenate([self._tokens[-self._history :], following])
        self._contexts = np.concatenate([self._contexts[-self._history :], contexts])
        return self._keys


def mixed_nats(nats: Floats, masses: Floats, share: Any) -> Floats:
    """Cost under (1 - share) p_vocab + share p_cache; p_cache are the masses, NaN if the history is empty."""
    empty = np.isnan(masses)
    with np.errstate(divide="ignore"):  # log(0) = -inf is the right value
        cached = np.log(share) + np.log(np.where(empty, 0.0, masses))
    return np.where(empty, nats, -np.logaddexp(np.log1p(-share) - nats, cached))
