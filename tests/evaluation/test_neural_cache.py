"""The neural cache compared with a loop over tokens."""

import math

import numpy as np
import pytest

from keraslm.evaluation.neural_cache import cache_nats, tune_cache
from keraslm.evaluation.reader import Reader
from keraslm.testtime import neural_cache as cache
from keraslm.testtime.grid import finer
from keraslm.testtime.neural_cache import NeuralCache, mixed_nats
from keraslm.testtime.settings import CacheSettings
from keraslm.testtime.tuning import LAMBDAS, THETAS
from keraslm.text.files import TextFile
from tests.reference.testtime import cached_nats, outputs
from tests.support.made_run import make_run
from tests.support.words import encode_text

RANDOM = np.random.default_rng(5)
HIDDEN = RANDOM.normal(size=(40, 3)).astype(np.float32)
TOKENS = RANDOM.integers(0, 4, 40)
NATS = RANDOM.uniform(0.1, 6.0, 40)


def in_steps(length, history, thetas, starts=None):
    """p_cache (G, 40), read in steps of a given length."""
    kept = NeuralCache(history, thetas)
    parts = range(0, 40, length)
    cut = [(x[i : i + length] if x is not None else None) for i in parts for x in (HIDDEN, TOKENS, starts)]
    return np.concatenate([kept.step(*cut[i : i + 3]) for i in range(0, len(cut), 3)], axis=1)


@pytest.fixture
def valid_ids(trained_run, config):
    return encode_text(trained_run.tokenizer, TextFile(config.data.valid[0]))


@pytest.mark.parametrize("length", [1, 3, 7, 40])
@pytest.mark.parametrize("history", [1, 2, 9, 100])
def test_blocks_equal_a_loop_over_tokens(length, history):
    thetas = [0.0, 0.3, 2.0]
    masses = in_steps(length, history, thetas)
    for theta, mass in zip(thetas, masses, strict=True):
        expected = cached_nats(TOKENS, HIDDEN, NATS, history, theta, 0.25)
        np.testing.assert_allclose(mixed_nats(NATS, mass, 0.25), expected, rtol=1e-5)


def test_large_blocks_are_split_to_bound_memory(monkeypatch):
    complete = in_steps(40, 9, [0.5])
    monkeypatch.setattr(cache, "_PRODUCTS", 60)
    np.testing.assert_allclose(in_steps(40, 9, [0.5]), complete, rtol=1e-6)
    kept = NeuralCache(9, [0.5])
    kept.step(HIDDEN, TOKENS)
    assert len(kept._keys) <= 9 + 60 // 18


def test_sentences_do_not_see_each_other():
    starts = np.zeros(40, bool)
    starts[[0, 5, 6, 23]] = True
    for length in (4, 40):
        mass = in_steps(length, 9, [0.7], starts)[0]
        expected = cached_nats(TOKENS, HIDDEN, NATS, 9, 0.7, 0.4, np.cumsum(starts))
        np.testing.assert_allclose(mixed_nats(NATS, mass, 0.4), expected, rtol=1e-5)
        assert np.flatnonzero(np.isnan(mass)).tolist() == [0, 5, 6, 23]


def test_large_products_do_not_overflow():
    masses = NeuralCache(9, [4.0]).step(HIDDEN * 1e3, TOKENS)
    assert np.isfinite(masses[:, 1:]).all() and masses[:, 1:].min() >= 0.0


def test_a_word_outside_the_cache_pays_for_the_share():
    assert mixed_nats(np.array([2.0]), np.array([0.0]), 0.5)[0] == pytest.approx(2.0 + math.log(2.0))
    assert mixed_nats(np.array([np.inf]), np.array([0.0]), 0.5)[0] == np.inf


def test_costs_of_a_text_equal_numpy(trained_run, valid_ids):
    _, hidden, nats = outputs(trained_run, valid_ids)
    found = cache_nats(Reader(trained_run), valid_ids, CacheSettings(20, 1.5, 0.3))
    np.testing.assert_allclose(found, cached_nats(valid_ids, hidden, nats, 20, 1.5, 0.3), rtol=1e-4)
    other = np.full(len(valid_ids), 2.0)
    found = cache_nats(Reader(trained_run), valid_ids, CacheSettings(20, 1.5, 0.3), other)
    np.testing.assert_allclose(found, cached_nats(valid_ids, hidden, other, 20, 1.5, 0.3), rtol=1e-4)


def test_the_context_of_a_run_bounds_the_cache(tmp_path):
    run = make_run(tmp_path, num_layers=1, units=3, context="sentence")
    ids = encode_text(run.tokenizer, ["the cat sat", "the cat sat on", "a dog"])
    found = cache_nats(Reader(run), ids, CacheSettings(20, 1.0, 0.5))
    plain = Reader(run).nats(ids)
    firsts = [0, 4, 9]  # of each line
    np.testing.assert_allclose(found[firsts], plain[firsts], rtol=1e-6)
    # No word occurs twice in a line, so the cache never helps.
    others = np.setdiff1d(np.arange(len(ids)), firsts)
    np.testing.assert_allclose(found[others], plain[others] + math.log(2.0), rtol=1e-5)


@pytest.mark.parametrize("given", [{}, {"cache_theta": 0.123456}, {"cache_lambda": 0.123456}])
def test_tuned_parameters_equal_a_brute_force_search(trained_run, valid_ids, given):
    ids = np.tile(valid_ids[:25], 2)
    _, hidden, nats = outputs(trained_run, ids)

    def search(thetas, shares):
        tried = [(t, s) for t in thetas for s in shares]
        costs = [cached_nats(ids, hidden, nats, 40, t, s).sum() for t, s in tried]
        return divmod(int(np.argmin(costs)), len(shares))

    thetas = [given["cache_theta"]] if "cache_theta" in given else list(THETAS)
    shares = [given["cache_lambda"]] if "cache_lambda" in given else list(LAMBDAS)
    best = search(thetas, shares)
    thetas, shares = finer(thetas, best[0]), finer(shares, best[1])
    best = search(thetas, shares)
    lines = []
    found = tune_cache(Reader(trained_run), ids, CacheSettings(40, **given), lines.append)
    assert (found.cache_theta, found.cache_lambda) == (thetas[best[0]], shares[best[1]])
    assert len(lines) == 2 and f"theta {found.cache_theta:g}, lambda {found.cache_lambda:g}" in lines[1]


def test_the_finer_grid_contains_the_best_point_and_ends_at_its_neighbours():
    assert finer([0.0, 0.1, 0.4], 1).tolist() == [0.0, 0.025, 0.05, 0.075, 0.1, 0.175, 0.25, 0.325, 0.4]
    assert finer([0.5, 0.6], 0).tolist() == [0.5, 0.525, 0.55, 0.575, 0.6]
    assert finer([0.123456], 0).tolist() == [0.123456]
