"""The clusters of an adaptive softmax: where the head ends and each tail begins. NumPy only.

Ids stand in order of falling frequency. The head holds the most frequent words and one entry a cluster; a word of
cluster i costs one more, narrower product: hidden states are projected from `H` to `tail_size(H, i)` numbers first.

Reference: Grave, Joulin, Cissé, Grangier and Jégou 2017, "Efficient softmax approximation for GPUs", arXiv:1609.04309.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTOR = 4  # by which each cluster is narrower than the one before: Grave et al., section 4.3
SMALLEST_TAIL = 16  # numbers that a word still gets; without a floor the third cluster of 200 units would have 3
HEAD_SHARE = 0.8  # of the tokens: they keep the full width, so that the narrow products cost little perplexity
LARGEST_COUNT = 3  # clusters beside the head: Grave et al., section 4.3, find no gain beyond about five in all


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


def choose_cutoffs(counts: NDArray[Any], units: int) -> tuple[int, ...]:
    """The ends of the head and of all clusters but the last that make a token cheapest, within two limits.

    The cost of a token is the number of multiplications that it is expected to take (Grave et al., section 4.2, without
    their constant for small matrices): the head's `H * (head + clusters)`, and for each cluster its share of the
    tokens times `d * (H + words of the cluster)`. The backward pass takes twice that wherever the ends lie.

    By that count alone the head would be a few dozen words, for a narrow product is cheap; but it also predicts worse.
    So the head holds `HEAD_SHARE` of the tokens, and each end is at least `FACTOR` times the one before. Ends are
    sought among 40 round numbers in geometric steps.

    Args:
        counts: of each id in the training text, `(V,)`, V at least 2.
        units: H.

    Example:
        >>> choose_cutoffs((1e9 / np.arange(1, 200_001) ** 1.2).astype(int), units=200)
        (500, 5000, 51000)
    """
    share = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    share /= max(1.0, share[-1])
    grid = _grid(len(counts))
    head = next((end for end in grid if share[end] >= HEAD_SHARE), grid[-1])
    later = [end for end in grid if end >= FACTOR * head]
    choices = [(head, *rest) for number in range(LARGEST_COUNT) for rest in combinations(later, number)]
    apart = [ends for ends in choices if all(end >= FACTOR * start for start, end in pairwise(ends))]
    return min(apart, key=lambda ends: _cost(share, (*ends, len(counts)), units))


def _grid(vocab_size: int) -> list[int]:
    """Candidates for an end: about 40 numbers below V, two digits and zeros, evenly spread on a logarithmic axis."""
    points = np.geomspace(max(1, vocab_size / 4096), vocab_size / 1.1, 40)
    scales = 10 ** np.maximum(0, np.floor(np.log10(points)).astype(int) - 1)
    ends = (np.round(points / scales) * scales).astype(int)
    return sorted({end for end in ends.tolist() if 1 <= end < vocab_size})


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
