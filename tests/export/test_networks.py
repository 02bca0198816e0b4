"""Every cell and softmax, layers of different sizes and tied weights, from a run of random weights to scores."""

import json
import math
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.numpy_helper import to_array

import keraslm
from keraslm.errors import InputError, UsageError
from keraslm.scoring import contract, kenlm, rows
from keraslm.scoring.sampler import Sampling, generate
from keraslm.scoring.state import ModelState
from keraslm_export import convert
from keraslm_export.verify import compare_files, opened_model
from tests.support.made_run import KINDS, LOOPS, make_run
from tests.support.tiny import text_lines


class Made:
    """A run, its model file and its verification; for an LSTM also its file with 8-bit weights."""

    def __init__(self, folder, kind):
        self.kind, self.path, self.int8 = kind, folder / "model.onnx", folder / "int8.onnx"
        fields = {"units": 8, "embedding_dim": 6, "num_layers": 2} | (KINDS | LOOPS)[kind]
        self.run = make_run(folder, text_lines(150, seed=1), **fields)
        self.model = self.run.config.model
        # Both files from one conversion; `export` would convert once for each.
        self.has_int8 = self.model.cell == "lstm" and not self.model.own_step
        outputs = [self.path, self.int8] if self.has_int8 else [self.path]
        self.verified = convert._convert_in_process(self.run, *outputs)
        self.session = keraslm.ModelSession(self.path, "cpu")


@pytest.fixture(scope="module", params=sorted(KINDS | LOOPS))
def made(request, tmp_path_factory):
    return Made(tmp_path_factory.mktemp(request.param), request.param)


def nodes(path) -> Counter:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_the_export_agrees_with_keras(made):
    assert made.verified.largest_difference < 1e-5 and made.verified.chunked_difference < 1e-5


def test_each_layer_is_one_node(made):
    found = nodes(made.path)
    kinds = {kind: found[kind] for kind in ("LSTM", "GRU", "RNN", "Loop", "If", "Scan") if found[kind]}
    assert kinds == {"Scan" if made.kind in LOOPS else made.model.cell.upper(): len(made.model.sizes)}


def test_no_bias_is_added_and_no_rows_are_counted(made):
    found = nodes(made.path)
    assert found["Range"] == 0
    assert found["GatherND"] == {"adaptive": 4}.get(made.kind, 0)  # hidden states and targets of each cluster
    if made.model.softmax in ("full", "sampled"):
        projected = 2 if made.kind == "capped" else 0  # of each layer, for all steps
        assert (found["Add"], found["MatMul"], found["GatherElements"]) == (projected, 1 + projected, 1)


def test_the_state_has_the_size_of_the_widest_layer(made):
    info, sizes = made.session.info, made.model.sizes
    assert (info.num_layers, info.hidden_size) == (len(sizes), max(sizes))
    assert info.configuration("m") == made.run.config
    rng = np.random.default_rng(0)
    ids, shape = rng.integers(0, info.vocab_size, (2, 5)), (len(sizes), 2, max(sizes))
    state = ModelState(*rng.uniform(-1, 1, (2, *shape)).astype(np.float32))
    narrow = ModelState(state.h.copy(), state.c.copy())
    for number, units in enumerate(sizes):
        narrow.h[number, :, units:] = 0
        narrow.c[number, :, units:] = 0
    expected, after = made.session.run(ids, narrow)
    found, end = made.session.run(ids, state)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(end.h, after.h)
    for number, units in enumerate(sizes):
        assert end.h[number, :, :units].all() and not end.h[number, :, units:].any()
    if made.model.cell != "lstm":
        np.testing.assert_array_equal(end.c, state.c)


@pytest.mark.parametrize("max_logits", [rows.MAX_LOGITS, 30])
def test_scores_agree_with_the_evaluation(made, tiny_folder, monkeypatch, max_logits):
    monkeypatch.setattr(rows, "MAX_LOGITS", max_logits)
    text = tiny_folder / "held-out.txt"
    expected = keraslm.evaluate(made.run, text)
    lines = text.read_text(encoding="utf-8").splitlines()
    found = keraslm.summarize(keraslm.load(made.path).score_lines(lines, "document"))
    assert found.nats == pytest.approx(expected.nats, rel=1e-5)
    assert found.oov_nats == pytest.approx(expected.oov_nats, rel=1e-5)
    assert (found.tokens, found.words, found.oovs) == (expected.tokens, expected.words, expected.oovs)


def test_hidden_states_are_the_input_of_the_softmax_of_keras(made):
    import keras

    from keraslm.evaluation.reader import load_model

    model, ids = load_model(made.run, 3), np.random.default_rng(0).integers(0, made.session.info.vocab_size, (3, 9))
    expected = keras.Model(model.inputs, model.get_layer("logits").input).predict_on_batch([ids.astype(np.int32)])
    zero = made.session.zero_state(3)
    plain = made.session.run(ids, zero)[0], made.session.target_logprobs(ids, ids, zero)[0]
    for targets, of_target in zip((None, ids), plain, strict=True):
        found, hidden, _ = made.session.hidden_states(ids, targets, zero)
        np.testing.assert_allclose(hidden, expected, atol=1e-5)
        np.testing.assert_array_equal(found, of_target)
    if made.int8.exists():
        _, hidden, _ = keraslm.ModelSession(made.int8, "cpu").hidden_states(ids, None, zero)
        np.testing.assert_allclose(hidden, expected, atol=0.05)


@pytest.mark.parametrize("context", ["sentence", "document"])
def test_the_neural_cache_agrees_with_the_evaluation(made, tiny_folder, context):
    text = tiny_folder / "held-out.txt"
    parameters = {"cache_theta": 2.0, "cache_lambda": 0.3, "cache_window": 7}
    (expected,) = keraslm.evaluate(made.run, text, context=context, neural_cache=True, **parameters).variants
    lines = text.read_text(encoding="utf-8").splitlines()
    found = keraslm.with_cache(made.path, **parameters).perplexity(lines, context)
    assert found == pytest.approx(expected.perplexity, rel=1e-5)


def test_the_distribution_sums_to_one_and_holds_the_score_of_each_target(made):
    size = made.session.info.vocab_size
    ids = np.random.default_rng(0).integers(0, size, (3, 9))
    zero = made.session.zero_state(3)
    log_probs, after = made.session.run(ids, zero)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1.0, rtol=1e-5)
    for targets in (np.roll(ids, -1, axis=1), *(np.full_like(ids, word) for word in range(size))):
        found, state = made.session.target_logprobs(ids, targets, zero)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.take_along_axis(log_probs, targets[..., None], 2)[..., 0], atol=1e-5)
        np.testing.assert_array_equal(state.h, after.h)


def test_distributions_are_computed_after_the_steps_that_have_a_target(made):
    ids, targets = np.array([[0, 3, 1, 2], [5, 4, 9, 7]]), np.array([[3, 1, 20, 4], [0, 0, 0, 0]])
    every, state = made.session.run(ids, made.session.zero_state(2))
    expected = np.take_along_axis(every, targets[..., None], -1)[..., 0]
    session = onnxruntime.InferenceSession(made.path.read_bytes(), providers=["CPUExecutionProvider"])
    for known in range(5):
        feed = dict(zip(contract.INPUTS, (ids, 0 * state.h, 0 * state.c, targets[:, :known]), strict=True))
        log_probs, h, _, of_targets, _ = session.run(list(contract.OUTPUTS), feed)
        assert (of_targets.shape, log_probs.shape) == ((2, known), (2, 4 - known, every.shape[-1]))
        np.testing.assert_allclose(of_targets, expected[:, :known], atol=1e-5)
        np.testing.assert_allclose(log_probs, every[:, known:], atol=1e-5)
        np.testing.assert_allclose(h, state.h, atol=1e-6)


def test_prefix_trees_the_kenlm_module_and_the_sampler_accept_the_file(made):
    lines = ["the cat sat", "the cat ran here", "", "a dog"]
    loaded = keraslm.load(made.path, "cpu")
    expected = [line.logprob for line in loaded.score_lines(lines, "sentence")]
    (found,) = keraslm.score_sets(loaded, [lines])
    assert [line.logprob for line in found] == pytest.approx(expected, abs=1e-4)
    model = kenlm.Model(str(made.path))
    assert [model.score(line) for line in lines] == pytest.approx([x / math.log(10) for x in expected], abs=1e-4)
    assert len(list(generate(made.session, "the", 5, Sampling(seed=1), stop_at_eos=False))) == 5


def test_a_tied_table_is_in_the_file_once_and_not_transposed_in_each_call(made, tmp_path):
    words = made.session.info.vocab_size
    for path in (made.path, made.int8) if made.int8.exists() else (made.path,):
        tensors = [to_array(tensor) for tensor in onnx.load(path).graph.initializer]
        tables = [t for t in tensors if t.ndim == 2 and min(t.shape) > 1 and words in t.shape]
        assert len(tables) == (1 if made.model.tie_weights or made.kind == "adaptive" else 2)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(tmp_path / "optimized.onnx").graph
        constant = {tensor.name for tensor in graph.initializer}
        assert not [node.name for node in graph.node if node.op_type == "Transpose" and node.input[0] in constant]


def test_experts_are_computed_one_by_one(made, tmp_path):
    """Each is added to the sum before the next is computed, so memory does not grow with their number."""
    if made.model.softmax != "mixture":
        return
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(made.path.read_bytes(), options, providers=["CPUExecutionProvider"])
    zero = made.session.zero_state(1)
    session.run(
        None, dict(zip(contract.INPUTS, (np.zeros((1, 9), int), zero.h, zero.c, np.zeros((1, 4), int)), strict=True))
    )
    events = json.loads(Path(session.end_profiling()).read_text())
    found = [e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time")]
    order = "".join({"Exp": "E", "LogSoftmax": "S"}.get(name, "") for name in found)
    assert order == ("S" + "SE" * made.model.num_experts) * 2  # priors and experts, of steps without a target and with


def test_8_bit_weights_have_the_same_perplexity(made, tiny_folder):
    if not made.has_int8:
        kind = f"LSTMs with {made.model.own_step}" if made.model.own_step else f"{made.model.cell} layers"
        with pytest.raises(UsageError, match=rf"^onnxruntime has no {kind} and 8-bit weights"):
            keraslm.export(made.run, made.int8, int8=True)
        return
    lines = (tiny_folder / "valid.txt").read_text(encoding="utf-8").splitlines()
    opened = partial(opened_model, lines=lines, context="document")
    assert compare_files(made.path, made.int8, "valid", opened, tolerance=0.01).difference != 0
    found = nodes(made.int8)
    assert found["DynamicQuantizeLSTM"] == len(made.model.sizes)
    assert not {"LSTM", "MatMul"} & found.keys()
    # Left sides in (-1, 1): hidden states of the last layer and of the experts. In the tails there is no bound.
    bounded = {"adaptive": 2 * 3, "mixture": 2 * (2 + 3)}.get(made.kind, 1)
    assert (found["MatMulIntegerToFloat"], found["DynamicQuantizeMatMul"]) == (bounded, 4 * (made.kind == "adaptive"))
    info = keraslm.ModelSession(made.int8, "cpu").info
    assert (info.precision, info.softmax) == ("int8", made.model.softmax)


def test_a_second_export_gives_the_same_bytes(made, tmp_path):
    if made.kind in ("adaptive", "rnn"):  # together they use every part
        paths = [path for path in (made.path, made.int8) if path.exists()]
        convert._convert_in_process(made.run, *(tmp_path / path.name for path in paths))
        for path in paths:
            assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_targets_are_checked(made):
    with pytest.raises(InputError, match="outside the vocabulary"):
        made.session.target_logprobs([[0]], [[made.session.info.vocab_size]], made.session.zero_state(1))
    with pytest.raises(InputError, match="they must be equal"):
        made.session.target_logprobs([[0]], [[0, 1]], made.session.zero_state(1))
