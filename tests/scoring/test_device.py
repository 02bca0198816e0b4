"""States on a device. onnxruntime binds to the CPU in the same way, so these tests need no GPU."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import keraslm
from keraslm.errors import InputError
from keraslm.scoring import rows, session
from keraslm.scoring.state import DeviceState
from tests.support import fake_model
from tests.support.fake_model import BY_HISTORY


@pytest.fixture
def bound(tmp_path, monkeypatch):
    """A scorer that keeps its states on the device, and the states given to `run_bound`."""
    run, states = session.run_bound, []

    def watched(onnx_session, device, wanted, ids, targets, state):
        states.append(state)
        return run(onnx_session, "cpu", wanted, ids, targets, state)

    monkeypatch.setattr(session, "run_bound", watched)
    loaded = keraslm.load(fake_model.write(tmp_path / "model.onnx", BY_HISTORY), "cpu")
    loaded.session.provider = "cuda"
    return loaded, states


LINES = ["the cat sat " * 200, "dog", "", "the bird", None, "cat " * 30]


@pytest.mark.parametrize("context", ["sentence", "paragraph", "document"])
@pytest.mark.parametrize("distributions", [False, True])
def test_scores_equal_those_without_a_device(bound, by_history, monkeypatch, context, distributions):
    monkeypatch.setattr(rows, "MAX_STEPS", 16)
    found = list(bound[0].score_lines(LINES, context, distributions))
    expected = list(by_history.score_lines(LINES, context, distributions))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.logprobs, theirs.logprobs)
    assert len(bound[1]) > 20


def test_a_state_is_passed_on_without_a_copy(bound):
    found, states = bound
    context = found.begin()
    for token in (2, 3, 1):
        _, context = found.advance(context, token)
    assert [type(state).__name__ for state in states] == ["ModelState", "DeviceState", "DeviceState"]
    assert all("h" not in vars(state) for state in states[1:])


def test_a_state_on_a_device_is_a_value(bound, by_history):
    found, _ = bound
    _, there = found.advance(found.begin(), 2)
    _, here = by_history.advance(by_history.begin(), 2)
    assert isinstance(there.state, DeviceState)
    assert there.state == here.state and hash(there.state) == hash(here.state) and len(there.state) == 1
    assert there.state.select([0, 0]) == here.state.select([0, 0])
    assert there.state.select(slice(None)) is there.state
    assert copy.copy(there.state) == pickle.loads(pickle.dumps(there.state)) == here.state
    assert repr(there.state) == "DeviceState(layers=1, rows=1, units=1)"
    assert found.advance(there, 3)[0] == by_history.advance(here, 3)[0]


def test_a_state_with_a_wrong_number_of_rows_is_refused_without_a_copy(bound):
    found, _ = bound
    _, there = found.advance(found.begin(), 2)
    with pytest.raises(
        InputError, match=r"State h0 is float32 of shape \(1, 1, 1\), but 2 rows need float32 \(1, 2, 1\)"
    ):
        found.session.run([[0], [0]], there.state)
    assert "h" not in vars(there.state)


def test_ids_are_checked_before_they_reach_the_device(bound):
    found, states = bound
    with pytest.raises(InputError, match="outside the vocabulary"):
        found.session.target_logprobs([[0]], [[99]], found.session.zero_state(1))
    assert states == []
