"""EM for the weight of a mixture: against a fine grid, and step by step by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keraslm
from keraslm.errors import ArgumentTypeError, TextError
from keraslm.ngram.tuning import em_weights, tune_mix
from tests.reference.ngram import Backoff
from tests.support import arpa

LINES = ["the cat sat", "the dog sat", "the cat", "dog sat sat"]
HELD_OUT = ["the cat sat", "the zebra sat", "", "dog cat the dog", "sat sat sat"]

probabilities = st.lists(
    st.tuples(st.floats(1e-9, 1), st.floats(1e-9, 1)) | st.tuples(st.just(0.0), st.floats(1e-9, 1)), min_size=1
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return arpa.write_arpa(tmp_path_factory.mktemp("tuning") / "model.arpa", LINES, 3)


def likelihood(pairs, weight):
    with np.errstate(divide="ignore"):
        return float(np.sum(np.log([weight * n + (1 - weight) * lstm for lstm, n in pairs])))


def steps_of(pairs, **start):
    with np.errstate(divide="ignore"):
        return list(em_weights(*np.log(np.array(pairs).T), **start))


def test_two_words_by_hand():
    """n is 0.4 and 0.1, l is 0.1 and 0.2: 0.8 and 1/3 after weight 1/2; the derivative is 0 at 2/3."""
    first, second, *_, last = steps_of([(0.1, 0.4), (0.2, 0.1)])
    assert first == pytest.approx((0.8 + 1 / 3) / 2)
    shares = (0.4 * first / (0.4 * first + 0.1 * (1 - first)), 0.1 * first / (0.1 * first + 0.2 * (1 - first)))
    assert second == pytest.approx(sum(shares) / 2)
    # 0.3 / (0.1 + 0.3 w) = 0.1 / (0.2 - 0.1 w), so 0.06 - 0.03 w = 0.01 + 0.03 w
    assert last == pytest.approx(5 / 6, abs=1e-4)


@given(probabilities)
def test_each_step_raises_the_likelihood_up_to_that_of_the_best_of_a_grid(pairs):
    weights = [0.5, *steps_of(pairs)]
    assert all(0 <= weight <= 1 for weight in weights)
    values = [likelihood(pairs, weight) for weight in weights]
    assert all(after >= before - 1e-9 for before, after in pairwise(values))
    best = max(likelihood(pairs, weight) for weight in np.linspace(0, 1, 1001))
    assert values[-1] >= best - 1e-3 * len(pairs)


@pytest.mark.parametrize(
    ("pairs", "last"),
    [
        ([(0.5, 0.25)] * 3, 0),  # the better model gets all of the weight
        ([(0.25, 0.5)] * 3, 1),
        ([(0.0, 0.5)] * 3, 1),
        ([(0.5, 0.0)] * 3, 0),
        ([(0.5, 0.5)], 0.5),
        ([(0.0, 0.0), (0.5, 0.5)], 0.5),  # an impossible word says nothing
        ([(1e-300, 1e-5), (1e-5, 1e-300)], 0.5),
    ],
)
def test_extreme_weights(pairs, last):
    assert steps_of(pairs)[-1] == pytest.approx(last, abs=1e-5)


def test_words_impossible_in_both_have_no_weight():
    assert steps_of([(0.0, 0.0)]) == []


@pytest.mark.parametrize("context", ["sentence", "document"])
def test_the_weight_of_a_text(by_history, path, context):
    found = tune_mix(by_history, path, HELD_OUT, context)
    grid = {
        weight: keraslm.mix(by_history, path, weight).perplexity(HELD_OUT, context) for weight in np.linspace(0, 1, 501)
    }
    best = min(grid, key=grid.get)
    assert found.weight == pytest.approx(best, abs=3e-3) and 0.01 < best < 0.99
    assert found.perplexity <= grid[best] + 1e-6
    assert found.perplexity == pytest.approx(keraslm.mix(by_history, path, found.weight).perplexity(HELD_OUT, context))
    assert found.lstm_perplexity == pytest.approx(by_history.perplexity(HELD_OUT, context))
    slow = Backoff(path.read_text())
    alone = [p for line in HELD_OUT for p in slow.sentence(line.split())]
    assert found.ngram_perplexity == pytest.approx(math.exp(-sum(alone) / len(alone)))
    assert found.words == len(alone) == 18 and found.steps > 1


def test_words_of_one_model_count_for_it(by_history, text):
    """The best weight when some words are impossible in one of the models, again by a grid."""
    lines = ["the bird sat", "dog the", "the bird bird", "cat dog"]
    path = arpa.write_arpa(text("", "one.arpa"), ["the bird sat", "the bird bird"], 2)
    found = tune_mix(by_history, path, lines)
    grid = {
        weight: keraslm.mix(by_history, path, weight).perplexity(lines) for weight in np.linspace(0.002, 0.998, 499)
    }
    assert found.weight == pytest.approx(min(grid, key=grid.get), abs=3e-3)
    assert math.isfinite(found.perplexity) and keraslm.mix(by_history, path, 1.0).perplexity(lines) == math.inf


def test_a_file_and_its_lines_give_the_same(by_history, fake_folder, bulk_model, path, text):
    lines = tune_mix(by_history, path, HELD_OUT)
    file = text("\n".join(HELD_OUT) + "\n", "valid.txt")
    assert tune_mix(bulk_model, str(path), file) == tune_mix(by_history, path, str(file)) == lines


def test_a_text_without_lines(by_history, path, text):
    with pytest.raises(TextError, match=r"empty\.txt: no lines, but the weight is tuned on them"):
        tune_mix(by_history, path, text("", "empty.txt"))
    with pytest.raises(TextError, match="the text: no lines"):
        tune_mix(by_history, path, [])
    with pytest.raises(ArgumentTypeError, match="`lines` is 3"):
        tune_mix(by_history, path, 3)
