"""Opening a model file, and feeding it."""

from __future__ import annotations

import hashlib

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from keraslm.errors import InputError, ModelFileError, TokenizerError, UsageError
from keraslm.scoring import contract
from keraslm.scoring.session import ModelSession, State
from tests.support import fake_model
from tests.support.fake_model import BY_HISTORY, TOKENIZER, V, model_info
from tests.support.words import train_words


@pytest.fixture(scope="module")
def session(by_history):
    return by_history.session


def opened(tmp_path, proto):
    return ModelSession(fake_model.save(tmp_path / "model.onnx", proto))


def test_an_open_file_shows_its_metadata_tokenizer_and_digest(tmp_path):
    info = model_info(valid_perplexity=98.5)
    path = fake_model.write(tmp_path / "model.onnx", info=info)
    session = ModelSession(path, "cpu")
    assert session.info == ModelSession(str(path)).info == info
    assert session.tokenizer.to_json() == TOKENIZER.to_json()
    assert session.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert session.provider == "cpu"


def test_zero_state_has_a_column_for_each_row(session):
    state = session.zero_state(3)
    assert state.h.shape == state.c.shape == (1, 3, 1)
    assert not state.h.any() and not state.c.any()


def test_answers_follow_the_formula(session):
    log_probs, _ = session.run([[0, 2, 3]], session.zero_state(1))
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(log_probs, BY_HISTORY[None, [1, 4, 8 % V]], rtol=1e-6)


def test_state_goes_on_where_the_last_call_stopped(session):
    ids = np.array([[0, 2, 3, 1], [4, 4, 5, 0]])
    whole, end = session.run(ids, session.zero_state(2))
    first, state = session.run(ids[:, :1], session.zero_state(2))
    second, state = session.run(ids[:, 1:], state)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    np.testing.assert_array_equal(state.h, end.h)
    np.testing.assert_array_equal(state.c, [[[4], [4]]])


def test_a_state_is_not_changed_by_a_call(session):
    state = session.zero_state(1)
    session.run([[3]], state)
    assert not state.h.any() and not state.c.any()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_ids_of_any_integer_type_are_taken(session, dtype):
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
        lambda zero: State(zero.h[:, :1], zero.c),
        lambda zero: State(zero.h, zero.c[:, :1]),
        lambda zero: State(zero.h[0], zero.c),
        lambda zero: State(np.zeros((2, 2, 1), np.float32), zero.c),
        lambda zero: State(zero.h, np.zeros((1, 2, 5), np.float32)),
        lambda zero: State(zero.h.astype(np.float64), zero.c),
        lambda zero: State(zero.h, zero.c.astype(np.float16)),
    ],
    ids=["h of one row", "c of one row", "h of two axes", "two layers", "five units", "h double", "c half"],
)
def test_a_state_of_a_wrong_shape_or_type_is_refused(session, change):
    with pytest.raises(InputError, match=r"^State (h0|c0) is float\d+ of shape .* 2 rows need float32 \(1, 2, 1\)"):
        session.run([[0], [0]], change(session.zero_state(2)))


def test_a_tokenizer_of_another_size_is_refused_with_both_numbers(tmp_path):
    smaller = train_words(["the cat"])
    info = model_info(tokenizer=smaller.to_json(), tokenizer_sha256=smaller.digest)
    with pytest.raises(ModelFileError, match=r"model\.onnx: the tokenizer has 4 tokens, the model 6 \(metadata: 6\)"):
        opened(tmp_path, fake_model.build(info=info))


def test_a_vocabulary_size_that_is_not_the_graphs_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"the tokenizer has 6 tokens, the model 6 \(metadata: 7\)"):
        opened(tmp_path, fake_model.build(info=model_info(vocab_size=7)))


def test_a_tokenizer_that_is_not_the_one_of_its_digest_is_refused(tmp_path):
    # Of the same size and with the same special ids: only the digest tells.
    other = train_words(["the cow sat", "the dog sat"])
    assert (other.vocab_size, other.unk_id, other.eos_id) == (V, TOKENIZER.unk_id, TOKENIZER.eos_id)
    with pytest.raises(ModelFileError, match="tokenizer_sha256"):
        opened(tmp_path, fake_model.build(info=model_info(tokenizer=other.to_json())))


@pytest.mark.parametrize("changes", [{"unk_id": 4}, {"eos_id": 1}, {"bos_id": 77}])
def test_special_ids_that_are_not_the_tokenizers_are_refused(tmp_path, changes):
    with pytest.raises(ModelFileError, match="in the metadata are not the tokenizer's"):
        opened(tmp_path, fake_model.build(info=model_info(**changes)))


@pytest.mark.parametrize("changes", [{"num_layers": 2}, {"hidden_size": 4}])
def test_a_state_that_is_not_the_metadatas_is_refused(tmp_path, changes):
    with pytest.raises(ModelFileError, match=r"the state has shape \[1, 'batch', 1\], metadata say"):
        opened(tmp_path, fake_model.build(info=model_info(**changes)))


def test_a_malformed_tokenizer_is_refused(tmp_path):
    with pytest.raises(TokenizerError, match=r"model\.onnx: metadata tokenizer: not a tokenizer\.json"):
        opened(tmp_path, fake_model.build(info=model_info(tokenizer="{}")))


def test_other_input_names_are_refused(tmp_path):
    proto = fake_model.build()
    proto.graph.input[1].name = "state"
    for node in proto.graph.node:
        node.input[:] = ["state" if name == contract.H0 else name for name in node.input]
    with pytest.raises(
        ModelFileError, match="inputs or outputs input_ids, state, c0, targets instead of input_ids, h0"
    ):
        opened(tmp_path, proto)


def test_a_graph_without_the_vocabulary_axis_is_refused(tmp_path):
    x, h, c, targets = fake_model.build().graph.input
    outputs = [
        helper.make_tensor_value_info(contract.LOG_PROBS, TensorProto.INT64, [contract.BATCH, contract.TIME]),
        helper.make_tensor_value_info(contract.NEXT_H0, TensorProto.FLOAT, [1, contract.BATCH, 1]),
        helper.make_tensor_value_info(contract.NEXT_C0, TensorProto.FLOAT, [1, contract.BATCH, 1]),
        helper.make_tensor_value_info(contract.TARGET_LOG_PROBS, TensorProto.INT64, [contract.BATCH, contract.KNOWN]),
    ]
    nodes = [
        helper.make_node("Identity", [source], [target])
        for source, target in zip(contract.INPUTS, contract.OUTPUTS, strict=True)
    ]
    graph = helper.make_graph(nodes, "flat", [x, h, c, targets], outputs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", contract.OPSET)], ir_version=8)
    helper.set_model_props(proto, model_info().to_metadata())
    with pytest.raises(ModelFileError, match=r"model\.onnx: "):
        opened(tmp_path, proto)


def test_cuda_without_a_gpu_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match="--provider cuda was asked for, but this onnxruntime has no CUDA"):
        ModelSession(fake_model.write(tmp_path / "model.onnx"), "cuda")


def test_auto_runs_on_the_cpu_where_there_is_nothing_else(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert ModelSession(fake_model.write(tmp_path / "model.onnx"), "auto").provider == "cpu"


def test_an_unknown_provider_is_refused(tmp_path):
    with pytest.raises(UsageError, match="gpu"):
        ModelSession(fake_model.write(tmp_path / "model.onnx"), "gpu")


@pytest.fixture
def broken_cuda(monkeypatch):
    """An onnxruntime that lists CUDA and cannot start it, as onnxruntime-gpu on a machine without a GPU does."""
    make = onnxruntime.InferenceSession
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda data, options, providers: make(data, options, providers=providers[1:])
    )


@pytest.mark.usefixtures("broken_cuda")
def test_cuda_that_onnxruntime_quietly_replaced_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--provider cuda was asked for, but onnxruntime could not start CUDA"):
        ModelSession(fake_model.write(tmp_path / "model.onnx"), "cuda")


@pytest.mark.usefixtures("broken_cuda")
def test_auto_says_that_it_fell_back(tmp_path, capsys):
    session = ModelSession(fake_model.write(tmp_path / "model.onnx"), "auto")
    assert session.provider == "cpu"
    assert capsys.readouterr().err == "keraslm: CUDA could not be started; scoring runs on the CPU.\n"
