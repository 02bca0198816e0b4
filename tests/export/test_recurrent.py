"""Nodes of GRU and RNN layers against NumPy, what is refused of them, and the state of layers of different sizes."""

from __future__ import annotations

import numpy as np
import pytest

from keraslm.errors import ModelFileError
from keraslm.scoring.session import ModelSession
from keraslm.scoring.state import ModelState
from tests.reference.cells import numpy_gru, numpy_rnn
from tests.reference.language_model import projection, softmax
from tests.support import fake_model, gru_model

CELLS = {"gru": numpy_gru, "rnn": numpy_rnn}
IDS = np.random.default_rng(1).integers(0, gru_model.V, (3, 7))


@pytest.fixture(
    params=[
        {},
        {"cell": "rnn", "layer_units": (3, 5)},
        {"layer_units": (4, 4), "embedding_dim": 4, "tie_weights": True},
        {"softmax": "mixture", "num_experts": 3},
    ],
    ids=["gru", "rnn", "tied", "mixture"],
)
def made(request, tmp_path):
    """Configuration, weights and an open model file."""
    config = gru_model.config_of(**request.param)
    proto, weights = gru_model.build(config)
    return config.model, weights, ModelSession(fake_model.save(tmp_path / "model.onnx", proto), "cpu")


def by_numpy(model, weights, ids, state):
    """Log-probabilities `(N, T, V)` and h, `(L, N, H)`."""
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    x, after = weights["embedding/embeddings"][ids], np.zeros(state.h.shape)
    for number, units in enumerate(model.sizes):
        parts = [weights[f"{model.cell}_{number}/{part}"] for part in ("kernel", "recurrent_kernel", "bias")]
        x, (after[number, :, :units],) = CELLS[model.cell](x, [state.h[number, :, :units]], parts)
    return np.log(softmax(projection(weights, x))), after


def test_answers_and_states_are_those_of_the_formula(made):
    model, weights, session = made
    shape = session.zero_state(len(IDS)).h.shape
    # Numbers behind the columns of a narrower layer mean nothing, and c is passed on.
    state = ModelState(*np.random.default_rng(2).uniform(-1, 1, (2, *shape)).astype(np.float32))
    expected, h = by_numpy(model, weights, IDS, state)
    log_probs, after = session.run(IDS, state)
    np.testing.assert_allclose(log_probs, expected, atol=2e-6)
    np.testing.assert_allclose(after.h, h, atol=1e-6)  # zeros behind those columns, too
    np.testing.assert_array_equal(after.c, state.c)
    found, same = session.target_logprobs(IDS, IDS, state)
    np.testing.assert_allclose(found, np.take_along_axis(expected, IDS[..., None], 2)[..., 0], atol=2e-6)
    np.testing.assert_array_equal(same.h, after.h)


def test_a_text_in_pieces_has_the_numbers_of_one_pass(made):
    session = made[2]
    whole, end = session.run(IDS, session.zero_state(3))
    first, state = session.run(IDS[:, :3], session.zero_state(3))
    second, state = session.run(IDS[:, 3:], state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    np.testing.assert_allclose(state.h, end.h, atol=1e-6)


def test_sizes_that_are_not_those_of_the_configuration_are_refused(tmp_path):
    proto, _ = gru_model.build(gru_model.config_of())
    (config,) = (entry for entry in proto.metadata_props if entry.key == "config")
    config.value = config.value.replace('"4,3"', '"5,3"')
    session = ModelSession(fake_model.save(tmp_path / "m.onnx", proto), "cpu")
    with pytest.raises(ModelFileError, match="metadata 'config' is the configuration of a different network"):
        session.info.configuration("m.onnx")
