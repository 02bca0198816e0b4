"""Opening a model file, and feeding it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from onnx import TensorProto, helper

from keraslm import load
from keraslm.errors import InputError, ModelFileError, TokenizerError
from keraslm.scoring import contract
from keraslm.scoring.session import ModelSession
from keraslm.scoring.state import ModelState
from tests.support import fake_model
from tests.support.fake_model import BY_HISTORY, TOKENIZER, V, model_info
from tests.support.words import train_words

SMALLER = train_words(["the cat"])
SIMILAR = train_words(["the cow sat", "the dog sat"])  # same size and special ids: only the digest differs


@pytest.fixture(scope="module")
def session(by_history):
    return by_history.session


def opened(tmp_path, proto):
    return ModelSession(fake_model.save(tmp_path / "model.onnx", proto))


def test_metadata_tokenizer_and_digest_of_an_open_file(tmp_path):
    info = model_info(valid_perplexity=98.5)
    path = fake_model.write(tmp_path / "model.onnx", info=info)
    session = ModelSession(path, "cpu")
    assert session.info == ModelSession(str(path)).info == info
    assert session.tokenizer.to_json() == TOKENIZER.to_json()
    assert session.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert session.provider == "cpu"


def test_zero_state_has_the_shape_of_its_rows(session):
    state = session.zero_state(3)
    assert state.h.shape == state.c.shape == (1, 3, 1)
    assert not state.h.any() and not state.c.any()


def test_answers_follow_the_formula(session):
    log_probs, _ = session.run([[0, 2, 3]], session.zero_state(1))
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(log_probs, BY_HISTORY[None, [1, 4, 8 % V]], rtol=1e-6)


def test_state_continues_from_the_previous_call(session):
    ids = np.array([[0, 2, 3, 1], [4, 4, 5, 0]])
    whole, end = session.run(ids, session.zero_state(2))
    first, state = session.run(ids[:, :1], session.zero_state(2))
    second, state = session.run(ids[:, 1:], state)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    np.testing.assert_array_equal(state.h, end.h)
    np.testing.assert_array_equal(state.c, [[[4], [4]]])


def test_a_call_does_not_change_its_state(session):
    state = session.zero_state(1)
    session.run([[3]], state)
    assert not state.h.any() and not state.c.any()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_ids_may_have_any_integer_type(session, dtype):
    log_probs, _ = session.run(np.array([[2]], dtype), session.zero_state(1))
    np.testing.assert_allclose(log_probs[0, 0], BY_HISTORY[3], rtol=1e-6)


@pytest.mark.parametrize(("ids", "bad"), [([[0, -1]], -1), ([[V, 0]], V), ([[2**40]], 2**40), ([[-1, V]], -1)])
def test_an_id_outside_the_vocabulary_is_refused(session, ids, bad):
    with pytest.raises(InputError, match=rf"^Token id {bad} is outside the vocabulary of 0 to {V - 1}\.$"):
        session.run(ids, session.zero_state(1))


@pytest.mark.parametrize(
    "ids",
    [np.zeros((0, 3), int), np.zeros((2, 0), int), np.zeros(3, int), np.zeros((1, 1, 1), int), [[1.0]], [[True]], []],
    ids=["no row", "no step", "one axis", "three axes", "floats", "booleans", "nothing"],
)
def test_ids_of_a_wrong_shape_or_type_are_refused(session, ids):
    with pytest.raises(InputError, match=r"^Token ids of type .* and shape .*integers of shape \(rows, steps\)"):
        session.run(ids, session.zero_state(len(ids)))


@pytest.mark.parametrize(
    "change",
    [
        lambda zero: ModelState(zero.h[:, :1], zero.c),
        lambda zero: ModelState(zero.h, zero.c[:, :1]),
        lambda zero: ModelState(zero.h[0], zero.c),
        lambda zero: ModelState(np.zeros((2, 2, 1), np.float32), zero.c),
        lambda zero: ModelState(zero.h, np.zeros((1, 2, 5), np.float32)),
        lambda zero: ModelState(zero.h.astype(np.float64), zero.c),
        lambda zero: ModelState(zero.h, zero.c.astype(np.float16)),
    ],
    ids=["h of one row", "c of one row", "h of two axes", "two layers", "five units", "h double", "c half"],
)
def test_a_state_of_a_wrong_shape_or_type_is_refused(session, change):
    with pytest.raises(InputError, match=r"^State (h0|c0) is float\d+ of shape .* 2 rows need float32 \(1, 2, 1\)"):
        session.run([[0], [0]], change(session.zero_state(2)))


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            {"vocab_size": 7},
            r"log_probs is .*, 6\), but the metadata say tensor\(float\) of shape .*, 7\); export the run again",
        ),
        ({"num_layers": 2}, r"h0 is tensor\(float\) of shape \(1, None, 1\), but the metadata say .*\(2, None, 1\)"),
        ({"hidden_size": 4}, r"h0 is .*, but the metadata say .*\(1, None, 4\)"),
        (
            {"unk_id": 4},
            r"vocab_size, unk_id, bos_id and eos_id in the metadata are not the tokenizer's \(6, 5, 0, 0\)",
        ),
        ({"eos_id": 1}, "in the metadata are not the tokenizer's"),
        ({"bos_id": 77}, "in the metadata are not the tokenizer's"),
        ({"tokenizer": SMALLER.to_json(), "tokenizer_sha256": SMALLER.digest}, r"not the tokenizer's \(4, "),
        ({"tokenizer": SIMILAR.to_json()}, "the tokenizer does not match tokenizer_sha256"),
    ],
    ids=["vocabulary", "layers", "units", "unk", "eos", "bos", "smaller tokenizer", "similar tokenizer"],
)
def test_inconsistent_metadata_are_refused(tmp_path, info, message):
    with pytest.raises(ModelFileError, match=rf"model\.onnx: .*{message}"):
        opened(tmp_path, fake_model.build(info=model_info(**info)))


def test_a_malformed_tokenizer_is_refused(tmp_path):
    with pytest.raises(TokenizerError, match=r"model\.onnx: metadata tokenizer: not a tokenizer\.json"):
        opened(tmp_path, fake_model.build(info=model_info(tokenizer="{}")))


def test_different_input_names_are_refused(tmp_path):
    proto = fake_model.build()
    proto.graph.input[1].name = "state"
    for node in proto.graph.node:
        node.input[:] = ["state" if name == contract.H0 else name for name in node.input]
    with pytest.raises(ModelFileError, match=r"inputs and outputs input_ids, state, c0, targets, .* are not those of"):
        opened(tmp_path, proto)


def test_different_types_are_refused(tmp_path):
    proto = fake_model.build()
    proto.graph.input[3].type.tensor_type.elem_type = TensorProto.INT32
    cast = helper.make_node("Cast", [contract.TARGETS], ["wide"], to=TensorProto.INT64)
    for node in proto.graph.node:
        node.input[:] = ["wide" if name == contract.TARGETS else name for name in node.input]
    proto.graph.node.insert(0, cast)
    with pytest.raises(
        ModelFileError, match=r"targets is tensor\(int32\) of shape .*, but the metadata say tensor\(int64\)"
    ):
        opened(tmp_path, proto)


def test_a_representation_is_one_useful_line(session, tmp_path):
    path = fake_model.write(tmp_path / "model.onnx")
    scorer = load(path, "cpu")
    inner = f"ModelSession('{path}', vocabulary=6, layers=1, units=1, precision='float32', provider='cpu')"
    assert (repr(scorer.session), repr(scorer)) == (inner, f"Scorer({inner})")
    assert repr(session.zero_state(3)) == "ModelState(layers=1, rows=3, units=1)"
    (line,) = scorer.score_lines(["the cat"])
    assert repr(line) == f"LineScore('the cat', tokens=3, logprob={line.logprob:.6g})"
    assert len(repr(session.info)) < 400 and "sat" not in repr(session.info)
