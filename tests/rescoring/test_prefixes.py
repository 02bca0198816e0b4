"""Sets of texts with common prefixes, compared with formulas and with each text alone."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.config import Config
from keraslm.errors import TextError
from keraslm.rescoring import prefixes
from keraslm.rescoring.prefixes import Tree, score_sequences, score_sets
from keraslm.scoring.session import ModelSession
from keraslm.scoring.state import ModelState
from tests.support import fake_model
from tests.support.fake_model import BY_HISTORY, V, expected, ids_of
from tests.support.limits import small_limits

# Few tokens, so that prefixes are shared. The end symbol may occur inside, and a sequence may be a prefix of another.
sequences = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=7), max_size=14)
texts = st.lists(st.sampled_from(["the", "cat", "dog", "bird", "<eos>"]), max_size=6).map(" ".join)
sets = st.lists(st.lists(texts, max_size=6), max_size=8)
limits = st.fixed_dictionaries(
    {
        "MAX_LOGITS": st.integers(1, 200),
        "_ROWS": st.integers(1, 4),
        "_LONE": st.integers(0, 3),
        "_TOKENS": st.integers(1, 60),
        "_STATES": st.integers(1, 9),
    }
)


@pytest.fixture(scope="module")
def kinds(fake_folder):
    """Two files with the same distributions; the metadata of one say that its softmax is adaptive."""
    config = Config().replace(num_layers=1, units=1, softmax="adaptive", cutoffs=(2,))
    info = fake_model.model_info(softmax="adaptive", config=json.dumps(config.to_dict()))
    paths = (
        fake_model.write(fake_folder / "full.onnx", BY_HISTORY),
        fake_model.write(fake_folder / "adaptive.onnx", BY_HISTORY, info),
    )
    return [ModelSession(path) for path in paths]


@given(sequences, limits, st.sampled_from([0, 1]))
def test_scores_are_those_of_the_formula(kinds, ids, values, kind):
    with small_limits(prefixes, values):
        found = score_sequences(kinds[kind], [np.array(each, np.int32) for each in ids])
    assert len(found) == len(ids)
    for own, wanted in zip(found, expected(BY_HISTORY, ids), strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-5)


@given(sets, limits, st.integers(1, 20))
def test_any_grouping_gives_the_scores_of_each_text_alone(by_history, groups, values, texts_ahead):
    with small_limits(prefixes, values):
        found = list(score_sets(by_history, groups, texts_ahead))
    assert [[line.text for line in lines] for lines in found] == groups
    alone = by_history.score_lines(itertools.chain.from_iterable(groups))
    for own, wanted in zip(itertools.chain.from_iterable(found), alone, strict=True):
        np.testing.assert_array_equal(own.ids, wanted.ids)
        np.testing.assert_array_equal(own.oov, wanted.oov)
        np.testing.assert_allclose(own.logprobs, wanted.logprobs, atol=1e-5)


def fed(ids) -> int:
    """The number of tokens that are fed to the network."""
    rows = []

    class Session:
        info = fake_model.model_info()
        logits_per_token, state_size, adaptive = V, 1, False

        def zero_state(self, count):
            return ModelState(np.zeros((1, count, 1), np.float32), np.zeros((1, count, 1), np.float32))

        def run(self, inputs, state):
            rows.append(inputs.size)
            return np.zeros((*inputs.shape, V), np.float32), state

        def target_logprobs(self, inputs, targets, state):
            rows.append(inputs.size)
            return np.zeros(inputs.shape, np.float32), state

    score_sequences(Session(), [np.array(each) for each in ids])
    return sum(rows)


@given(sequences)
def test_each_prefix_is_fed_once(ids):
    assert fed(ids) == len({tuple(each[:length]) for each in ids for length in range(len(each))})


def test_a_tree_in_numbers():
    tree = Tree.of([np.array(each) for each in ([1, 2], [1, 2, 0], [1, 4], [3])])
    assert tree.tokens.tolist() == [1, 3, 2, 4, 0]
    assert tree.sources.tolist() == [-1, -1, 0, 0, 2]
    assert tree.nodes.tolist() == [0, 0, 0, 0, 0]
    assert tree.starts.tolist() == [0, 2, 4, 5]
    assert tree.widths.tolist() == [1, 1, 1]
    assert tree.edges_of_rows[1].tolist() == [0, 2, 4]


def test_runs_without_a_fork_go_through_in_one_call(kinds, monkeypatch):
    calls = []
    real = ModelSession.target_logprobs
    monkeypatch.setattr(
        ModelSession,
        "target_logprobs",
        lambda self, ids, *rest: calls.append(np.shape(ids)) or real(self, ids, *rest),
    )
    (found,) = score_sequences(kinds[0], [np.arange(50, dtype=np.int32) % V])
    assert calls == [(1, 50)]
    np.testing.assert_allclose(found, expected(BY_HISTORY, [[i % V for i in range(50)]])[0], rtol=1e-5)


def test_sets_before_an_error_are_scored(by_id):
    def faulty():
        yield from [["the"], ["cat"], ["dog"]]
        raise TextError("here")

    found = []
    with pytest.raises(TextError, match="here"):
        found += (lines for lines in score_sets(by_id, faulty()))
    assert len(found) == 3


def test_the_first_set_is_scored_before_the_second_is_read(by_id):
    read = []

    def counted():
        for number in range(100):
            read.append(number)
            yield ["the cat"]

    found = score_sets(by_id, counted())
    next(found)
    assert len(read) == 1


def test_empty_sets_and_blank_texts(by_id):
    found = list(score_sets(by_id, [[], [""], []]))
    assert [len(lines) for lines in found] == [0, 1, 0]
    assert found[1][0].logprob == pytest.approx(np.log(1 / 21), rel=1e-6)
    assert list(score_sets(by_id, [])) == []
    assert ids_of("") == found[1][0].ids.tolist()
