import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.config.clusters import choose_cutoffs, describe_clusters, tail_size


def zipf(size, exponent):
    return (1e9 / np.arange(1, size + 1) ** exponent).astype(np.int64)


def expected_multiplications(counts, ends, units):
    """Of a token, one cluster after the other, as the paper counts them."""
    share = counts / counts.sum()
    cost = units * (ends[0] + len(ends) - 1)
    for cluster, (start, end) in enumerate(itertools.pairwise(ends)):
        size = tail_size(units, cluster)
        cost += share[start:end].sum() * (units * size + size * (end - start))
    return cost


@pytest.mark.parametrize("units", [200, 650])
@pytest.mark.parametrize("size", [2000, 10_000, 200_000])
def test_the_ends_are_cheaper_than_their_neighbours_and_the_head_holds_four_fifths(size, units):
    counts = zipf(size, 1.2)
    ends = (*choose_cutoffs(counts, units), size)
    cost = expected_multiplications(counts, ends, units)
    assert cost < 0.3 * units * size
    assert counts[: ends[0]].sum() >= 0.8 * counts.sum()
    for place, factor in itertools.product(range(1, len(ends) - 1), (0.5, 2.0)):
        moved = [*ends]
        moved[place] = round(moved[place] * factor)
        if all(end >= 4 * start for start, end in itertools.pairwise(moved[:-1])) and moved[-2] < size:
            assert expected_multiplications(counts, moved, units) >= cost


def test_a_large_vocabulary_costs_a_fraction():
    counts = zipf(200_000, 1.2)
    assert expected_multiplications(counts, (*choose_cutoffs(counts, 200), 200_000), 200) < 0.01 * 200 * 200_000


def test_a_flat_text_has_a_larger_head_than_a_steep_one():
    assert choose_cutoffs(zipf(50_000, 1.0), 200)[0] > choose_cutoffs(zipf(50_000, 1.3), 200)[0]


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=300), st.sampled_from([1, 8, 200, 1500]))
def test_any_counts_give_ends_inside_the_vocabulary(counts, units):
    ends = choose_cutoffs(np.array(sorted(counts, reverse=True)), units)
    assert 1 <= len(ends) <= 3
    assert [0, *ends, len(counts)] == sorted({0, *ends, len(counts)})


def test_tails_get_narrower_down_to_a_floor_and_never_wider_than_the_states():
    assert [tail_size(650, cluster) for cluster in range(4)] == [162, 40, 16, 16]
    assert tail_size(8, 0) == 8


def test_clusters_are_described_with_their_shares():
    found = describe_clusters(np.array([6, 2, 1, 1]), (1, 2))
    assert found == "head of 1 (60.0% of the tokens), then 1 (20.0% of the tokens), 2 (20.0% of the tokens)"
