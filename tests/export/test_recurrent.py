"""Recurrent nodes against NumPy, for each cell and for layers of different sizes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from keraslm.config import ModelConfig
from keraslm.scoring import contract
from keraslm.scoring.session import ModelSession
from keraslm.scoring.state import ModelState
from keraslm_export.graph import HIDDEN, Writer, build_model
from tests.reference.cells import numpy_gru, numpy_rnn
from tests.reference.language_model import projection, softmax
from tests.reference.lstm import numpy_lstm
from tests.support import fake_model
from tests.support.made_run import random_weights

V = fake_model.V
IDS = np.random.default_rng(1).integers(0, V, (3, 7))


def softmax_nodes() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A full softmax, without tf2onnx."""
    constants = {"one": np.array([1]), "two": np.array([2]), "far": np.array([1 << 40])}
    nodes = [
        helper.make_node("Slice", ["kernel", "zero", "last", "zero"], ["matrix"]),
        helper.make_node("Slice", ["kernel", "last", "far", "zero"], ["bias"]),
        helper.make_node("MatMul", [HIDDEN, "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["all"]),
        helper.make_node("Shape", [contract.TARGETS], ["shape"]),
        helper.make_node("Slice", ["shape", "one", "two"], ["known"]),
        helper.make_node("Slice", ["all", "known", "far", "one"], [contract.LOG_PROBS]),
        helper.make_node("Unsqueeze", [contract.TARGETS, "two"], ["column"]),
        helper.make_node("GatherElements", ["all", "column"], ["found"], axis=2),
        helper.make_node("Squeeze", ["found", "two"], [contract.TARGET_LOG_PROBS]),
    ]
    constants |= {"zero": np.array([0]), "last": np.array([-1])}
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]


@pytest.fixture(params=["lstm", "gru", "rnn"])
def made(request, tmp_path):
    """Configuration, weights and an open model file."""
    config = ModelConfig(cell=request.param, layer_units=(4, 5, 3), embedding_dim=5)
    weights = random_weights(config, V)
    proto = build_model(config, weights, softmax_nodes(), Writer())
    info = fake_model.model_info(num_layers=3, hidden_size=5, embedding_dim=5)
    helper.set_model_props(proto, info.to_metadata())
    onnx.checker.check_model(proto, full_check=True)
    return config, weights, ModelSession(fake_model.save(tmp_path / "model.onnx", proto), "cpu")


def by_numpy(config, weights, ids, state):
    """Log-probabilities `(N, T, V)`, h and c, `(L, N, H)`."""
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    x, h, c = weights["embedding/embeddings"][ids], np.zeros(state.h.shape), np.zeros(state.c.shape)
    for number, units in enumerate(config.sizes):
        parts = [weights[f"{config.cell}_{number}/{part}"] for part in ("kernel", "recurrent_kernel", "bias")]
        own = number, slice(None), slice(units)
        if config.cell == "lstm":
            x, h[own], c[own] = numpy_lstm(x, state.h[own], state.c[own], *parts)
        else:
            x, (h[own],) = {"gru": numpy_gru, "rnn": numpy_rnn}[config.cell](x, [state.h[own]], parts)
    return np.log(softmax(projection(weights, x))), h, c if config.cell == "lstm" else state.c


def test_answers_and_states_agree_with_the_formula(made):
    config, weights, session = made
    # Columns beyond a narrower layer's units are ignored on input and zero on output.
    state = ModelState(*np.random.default_rng(2).uniform(-1, 1, (2, 3, len(IDS), 5)).astype(np.float32))
    expected, h, c = by_numpy(config, weights, IDS, state)
    log_probs, after = session.run(IDS, state)
    np.testing.assert_allclose(log_probs, expected, atol=2e-6)
    np.testing.assert_allclose(after.h, h, atol=1e-6)
    np.testing.assert_allclose(after.c, c, atol=1e-6)
    found, same = session.target_logprobs(IDS, IDS, state)
    np.testing.assert_allclose(found, np.take_along_axis(expected, IDS[..., None], 2)[..., 0], atol=2e-6)
    np.testing.assert_array_equal(same.h, after.h)


def test_a_text_in_pieces_has_the_numbers_of_one_pass(made):
    session = made[2]
    expected, end = session.run(IDS, session.zero_state(3))
    first, state = session.run(IDS[:, :3], session.zero_state(3))
    second, state = session.run(IDS[:, 3:], state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, atol=1e-6)
    np.testing.assert_allclose(state.h, end.h, atol=1e-6)
