"""The clusters of an adaptive softmax: where the head ends and each tail begins. NumPy only.

Ids stand in order of falling frequency. The head holds the most frequent words and one entry a cluster; a word of
cluster i costs one more, narrower product: hidden states are projected from `H` to `tail_size(H, i)` numbers first.

Reference: Grave, Joulin, Cissé, Grangier and Jégou 2017, "Efficient softmax approximation for GPUs", arXiv:1609.04309.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import ConfigError

FACTOR = 4  # by which each cluster is narrower than the one before: Grave et al., section 4.3
SMALLEST_TAIL = 16  # numbers that a word still gets; without a floor the third cluster of 200 units would have 3
SMALLEST_HEAD = 1000  # words; below, what a token costs outside the softmax decides
LARGEST_COUNT = 4  # clusters beside the head


def tail_size(units: int, cluster: int) -> int:
    """Numbers that hidden states of `units` are projected to for a cluster, counted from 0.

    Example:
        >>> [tail_size(200, cluster) for cluster in range(3)]
        [50, 16, 16]
    """
    return min(units, max(SMALLEST_TAIL, units // FACTOR ** (cluster + 1)))


def adaptive_shapes(units: int, cutoffs: Sequence[int], vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of an adaptive softmax, the head's first.

    Example:
        >>> adaptive_shapes(200, (2000,), 10000)["tail_0_kernel"]
        (50, 8000)
    """
    ends = (*cutoffs, vocab_size)
    head = ends[0] + len(cutoffs)
    shapes: dict[str, tuple[int, ...]] = {"head_kernel": (units, head), "head_bias": (head,)}
    for cluster, (start, end) in enumerate(pairwise(ends)):
        size = tail_size(units, cluster)
        shapes[f"tail_{cluster}_projection"] = (units, size)
        shapes[f"tail_{cluster}_kernel"] = (size, end - start)
        shapes[f"tail_{cluster}_bias"] = (end - start,)
    return shapes


def choose_cutoffs(counts: NDArray[np.integer], units: int) -> tuple[int, ...]:
    """The ends of the head and of all clusters but the last that make a token cheapest.

    The cost of a token is the number of multiplications that it is expected to take (Grave et al., section 4.2, without
    their constant for small matrices): the head's `H * (head + clusters)`, and for each cluster its share of the
    tokens times `d * (H + words of the cluster)`. Ends are sought on a grid with two steps an octave.

    Args:
        counts: of each id in the training text, `(V,)`.
        units: H.

    Raises:
        ConfigError: for a vocabulary that is too small to be parted.

    Example:
        >>> choose_cutoffs((1e7 / np.arange(1, 200001)).astype(int), units=200)
        (4419, 25000)
    """
    size = len(counts)
    if size < 2 * SMALLEST_HEAD:
        raise ConfigError(
            f"A vocabulary of {size:,} is too small for --softmax adaptive, which gains nothing below "
            f"{2 * SMALLEST_HEAD:,}. Use --softmax full, or name --cutoffs yourself."
        )
    share = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)]) / max(1, int(counts.sum()))
    grid = sorted({round(size / 2 ** (step / 2)) for step in range(1, 40)})
    grid = [end for end in grid if end >= SMALLEST_HEAD]
    best: tuple[float, tuple[int, ...]] = (np.inf, ())
    for clusters in range(1, LARGEST_COUNT + 1):
        for ends in combinations(grid, clusters):
            best = min(best, (_cost(share, (*ends, size), units), ends))
    return best[1]


def _cost(share: NDArray[np.float64], ends: tuple[int, ...], units: int) -> float:
    cost = float(units * (ends[0] + len(ends) - 1))
    for cluster, (start, end) in enumerate(pairwise(ends)):
        cost += (share[end] - share[start]) * tail_size(units, cluster) * (units + end - start)
    return cost


def describe_clusters(counts: NDArray[np.integer], cutoffs: tuple[int, ...]) -> str:
    """The clusters in words, with the share of the tokens that falls into each."""
    total, ends = max(1, int(counts.sum())), (0, *cutoffs, len(counts))
    parts = [f"{end - start:,} ({counts[start:end].sum() / total:.1%} of the tokens)" for start, end in pairwise(ends)]
    return f"head of {parts[0]}, then {', '.join(parts[1:])}"
