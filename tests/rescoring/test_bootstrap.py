"""Bootstrap intervals, compared with a plain statement, with all resamples of a small list, and at the limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import ArgumentTypeError, UsageError
from keraslm.rescoring import bootstrap as module
from keraslm.rescoring.bootstrap import bootstrap
from tests.support.limits import small_limits

ERRORS = np.array([[3, 0, 2], [1, 1, 2], [0, 0, 1]])
WORDS = np.array([5, 2, 4])


def quantile(values, share):
    """By the definition: linear between the two sorted values around `share * (n - 1)`."""
    values = sorted(values)
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


utterances = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=6)


@given(utterances, st.integers(1, 40), st.integers(0, 5), st.integers(1, 30))
def test_the_formula_in_a_loop(rows, resamples, seed, draws):
    errors, words = np.array(rows).T[:2], np.array(rows).T[2]
    with small_limits(module, {"_DRAWS": draws}):
        found = bootstrap(errors, words, resamples, seed)
    generator = np.random.default_rng(seed)
    first, second, better = [], [], 0
    for _ in range(resamples):
        drawn = [int(generator.integers(len(rows))) for _ in rows]
        size = float(sum(rows[number][2] for number in drawn))
        one, other = (float(sum(rows[number][system] for number in drawn)) for system in (0, 1))
        first.append(one / size)
        second.append(other / size)
        better += other < one
    expected = [[quantile(rates, share) for rates in (first, second)] for share in (0.025, 0.975)]
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-12)
    np.testing.assert_allclose(found.improvement, [0.0, better / resamples], rtol=1e-12)


def test_all_resamples_of_three_utterances():
    rates, better = [], []
    for drawn in itertools.product(range(3), repeat=3):
        totals = ERRORS[:, drawn].sum(axis=1)
        rates.append(totals / WORDS[list(drawn)].sum())
        better.append(totals < totals[0])
    found = bootstrap(ERRORS, WORDS, 200_000, 1)
    np.testing.assert_allclose(found.improvement, np.mean(better, axis=0), atol=0.005)
    ends = np.quantile(np.array(rates), [0.025, 0.975], axis=0, method="inverted_cdf")
    np.testing.assert_array_equal([found.low, found.high], ends)  # the distribution is discrete


def test_the_interval_of_a_large_list_is_that_of_the_normal_distribution():
    errors = np.random.default_rng(3).binomial(10, 0.2, (1, 2000))
    found = bootstrap(errors, np.full(2000, 10), 4000)
    half = 1.96 * errors.std() / 10 / np.sqrt(2000)
    np.testing.assert_allclose(
        [found.low[0], found.high[0]], [errors.mean() / 10 - half, errors.mean() / 10 + half], atol=4e-4
    )


def test_equal_and_always_better_systems():
    found = bootstrap(np.array([[1, 2, 3], [1, 2, 3], [0, 1, 2], [2, 3, 4]]), np.array([4, 4, 4]), 100)
    assert found.improvement.tolist() == [0, 0, 1, 0]
    one = bootstrap(np.array([[2], [1]]), np.array([4]), 10)
    assert (one.low.tolist(), one.high.tolist(), one.improvement.tolist()) == ([0.5, 0.25], [0.5, 0.25], [0, 1])
    assert one.cells(0) == ["50.00", "50.00", "-"] and one.cells(1) == ["25.00", "25.00", "1.0000"]


def test_references_without_words():
    found = bootstrap(np.array([[1, 1], [0, 1]]), np.array([0, 2]), 100, 2)
    assert (found.low[0], found.high[0]) == (0.5, 1.0)  # resamples without words are left out
    for errors in (np.zeros((2, 0), np.int64), np.ones((2, 3), np.int64)):
        none = bootstrap(errors, np.zeros(errors.shape[1], np.int64), 10)
        assert np.isnan(none.low).all() and np.isnan(none.high).all() and not none.improvement.any()


def test_the_seed_decides():
    same = [bootstrap(ERRORS, WORDS, 50, seed).improvement[1] for seed in (4, 4, 5, 6)]
    assert same[0] == same[1] and len(set(same)) > 1
    with pytest.raises(UsageError, match="`bootstrap` is 0, but must be at least 1"):
        bootstrap(ERRORS, WORDS, 0)
    with pytest.raises(ArgumentTypeError, match=r"`seed` is 1\.5"):
        bootstrap(ERRORS, WORDS, 10, 1.5)
