import itertools

import numpy as np
import pytest

from keraslm.clusters import choose_cutoffs, describe_clusters, tail_size
from keraslm.errors import ConfigError


def zipf(size):
    return (1e9 / np.arange(1, size + 1)).astype(np.int64)


def expected_multiplications(counts, ends, units):
    """Of a token, one cluster after the other, as the paper counts them."""
    share = counts / counts.sum()
    cost = units * (ends[0] + len(ends) - 1)
    for cluster, (start, end) in enumerate(itertools.pairwise(ends)):
        size = tail_size(units, cluster)
        cost += share[start:end].sum() * (units * size + size * (end - start))
    return cost


@pytest.mark.parametrize("size", [2000, 10_000, 200_000])
def test_the_ends_are_cheaper_than_their_neighbours_and_than_no_clusters(size):
    counts = zipf(size)
    ends = (*choose_cutoffs(counts, 200), size)
    cost = expected_multiplications(counts, ends, 200)
    assert ends[0] >= 1000 and list(ends) == sorted(set(ends))
    assert cost < 200 * size
    for place in range(len(ends) - 1):
        for factor in (0.6, 1.6):
            moved = [*ends]
            moved[place] = round(moved[place] * factor)
            if moved == sorted(set(moved)) and moved[0] >= 1000:
                assert expected_multiplications(counts, moved, 200) > 0.999 * cost


def test_a_large_vocabulary_costs_a_fraction():
    counts = zipf(200_000)
    assert expected_multiplications(counts, (*choose_cutoffs(counts, 200), 200_000), 200) < 0.03 * 200 * 200_000


def test_tails_get_narrower_down_to_a_floor_and_never_wider_than_the_states():
    assert [tail_size(650, cluster) for cluster in range(4)] == [162, 40, 16, 16]
    assert tail_size(8, 0) == 8


def test_a_small_vocabulary_is_refused_with_what_to_do():
    with pytest.raises(
        ConfigError, match=r"1,999 is too small for --softmax adaptive.*--softmax full, or name --cutoffs"
    ):
        choose_cutoffs(zipf(1999), 200)


def test_clusters_are_described_with_their_shares():
    found = describe_clusters(np.array([6, 2, 1, 1]), (1, 2))
    assert found == "head of 1 (60.0% of the tokens), then 1 (20.0% of the tokens), 2 (20.0% of the tokens)"
