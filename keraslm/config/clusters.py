"""The clusters of an adaptive softmax: where the head ends and each tail begins.

Ids are in order of decreasing frequency. The head holds the most frequent words and one entry per cluster. A word of
cluster i takes a second, narrower product: hidden states are first projected from `H` to `tail_size(H, i)` numbers.

Reference: Grave, Joulin, Cissé, Grangier and Jégou 2017, "Efficient softmax approximation for GPUs", arXiv:1609.04309.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTOR = 4  # ratio of the widths of two consecutive clusters: Grave et al., section 4.3
SMALLEST_TAIL = 16  # smallest width; otherwise the third cluster of 200 units would have 3
HEAD_SHARE = 0.8  # share of the tokens that keep the full width, so that narrow products cost little perplexity
LARGEST_COUNT = 3  # clusters including the head; Grave et al., section 4.3, find no gain beyond about five


def tail_size(units: int, cluster: int) -> int:
    """Width of a cluster, counted from 0, for hidden states of `units` numbers.

    Example:
        >>> [tail_size(200, cluster) for cluster in range(3)]
        [50, 16, 16]
    """
    return min(units, max(SMALLEST_TAIL, units // FACTOR ** (cluster + 1)))


def adaptive_shapes(units: int, cutoffs: Sequence[int], vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of each weight of an adaptive softmax, starting with the head.

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
    """The ends of the head and of all clusters but the last that minimize the expected cost of a token.

    The cost is the number of multiplications (Grave et al., section 4.2, without their constant for small matrices):
    `H * (head + clusters)` for the head, and for each cluster its share of the tokens times `d * (H + words of the
    cluster)`. By this count alone the head would be a few dozen words, but narrow products also predict worse. So the
    head holds at least `HEAD_SHARE` of the tokens, and each end is at least `FACTOR` times the previous one. The
    candidates are 40 round numbers in geometric steps.

    Args:
        counts: occurrences of each id in the training text, `(V,)`, V at least 2.
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
    """About 40 candidates below V, of two digits and zeros, evenly spaced on a logarithmic axis."""
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
    """A sentence with the size of each cluster and its share of the tokens."""
    total, ends = max(1, int(counts.sum())), (0, *cutoffs, len(counts))
    parts = [f"{end - start:,} ({counts[start:end].sum() / total:.1%} of the tokens)" for start, end in pairwise(ends)]
    return f"head of {parts[0]}, then {', '.join(parts[1:])}"
