"""Layers of different sizes, tied weights, mixtures of softmaxes and other cells, from training to scores."""

import contextlib
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import keraslm
from keraslm.errors import UsageError
from keraslm.scoring import contract, kenlm
from keraslm.scoring.sampler import Sampling, generate
from keraslm.scoring.state import ModelState
from keraslm_export import convert
from keraslm_export.quantize import compare_files
from keraslm_export.simplify import constants_of
from tests.support.tiny import FIELDS

KINDS = {
    "tied": {"layer_units": (9, 5), "embedding_dim": 5, "tie_weights": True},
    "mixture": {"layer_units": (6, 9), "embedding_dim": 5, "softmax": "mixture", "num_experts": 3},
    "gru": {"cell": "gru", "layer_units": (5, 8, 6)},
    "rnn": {"cell": "rnn", "softmax": "mixture", "num_experts": 2, "tie_weights": True},
}


class Made:
    """A run, its model file and what the export reported; of an LSTM also its file with 8-bit weights."""

    def __init__(self, folder, kind, texts):
        self.kind, self.path, self.int8 = kind, folder / "model.onnx", folder / "int8.onnx"
        fields = FIELDS | {"num_layers": 2, "units": 8, "embedding_dim": 6} | KINDS[kind]
        with contextlib.chdir(folder):
            self.run = keraslm.train(
                keraslm.preset("small"),
                run=folder / "run",
                verbose=0,
                log=lambda _: None,
                learning_rate=0.5,
                **texts,
                **fields,
            )
        self.model = self.run.config.model
        # Both files of one conversion, which `export` would make once for each.
        outputs = [self.path, self.int8] if self.model.cell == "lstm" else [self.path]
        self.report = convert._convert_in_subprocess(self.run, *outputs)
        self.session = keraslm.ModelSession(self.path, "cpu")


@pytest.fixture(scope="module", params=sorted(KINDS))
def made(request, tmp_path_factory, tiny_folder):
    texts = {"train": tiny_folder / "train.txt", "valid": tiny_folder / "valid.txt"}
    return Made(tmp_path_factory.mktemp(request.param), request.param, texts)


def nodes(path) -> Counter:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_the_export_agrees_with_keras(made):
    assert made.report["largest_difference"] < 1e-5 and made.report["chunked_difference"] < 1e-5
    assert made.report[f"{made.model.cell}_nodes"] == len(made.model.sizes)


def test_each_layer_is_one_node_and_nothing_loops(made):
    found = nodes(made.path)
    kinds = {kind: found[kind] for kind in ("LSTM", "GRU", "RNN", "Loop", "If", "Scan") if found[kind]}
    assert kinds == {made.model.cell.upper(): len(made.model.sizes)}
    assert not {"Add", "GatherND", "Range"} & found.keys() or made.model.softmax == "mixture"


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


def test_scores_are_those_of_the_evaluation(made, tiny_folder):
    text = tiny_folder / "held-out.txt"
    expected = keraslm.evaluate(made.run, text)
    lines = text.read_text(encoding="utf-8").splitlines()
    found = keraslm.summarize(keraslm.load(made.path).score_lines(lines, "document"))
    assert found.nats == pytest.approx(expected.nats, abs=1e-4)
    assert found.oov_nats == pytest.approx(expected.oov_nats, abs=1e-4)
    assert (found.tokens, found.words, found.oovs) == (expected.tokens, expected.words, expected.oovs)


def test_the_distribution_is_computed_after_the_steps_that_have_a_target(made):
    ids = np.array([[0, 3, 1, 2], [5, 4, 9, 7]])
    targets = np.array([[3, 1, 20, 4], [0, 0, 0, 0]])
    whole, state = made.session.run(ids, made.session.zero_state(2))
    np.testing.assert_allclose(np.exp(whole).sum(axis=-1), 1.0, rtol=1e-5)
    expected = np.take_along_axis(whole, targets[..., None], -1)[..., 0]
    session = onnxruntime.InferenceSession(made.path.read_bytes(), providers=["CPUExecutionProvider"])
    for known in range(5):
        feed = dict(zip(contract.INPUTS, (ids, 0 * state.h, 0 * state.c, targets[:, :known]), strict=True))
        log_probs, h, _, of_targets = session.run(list(contract.OUTPUTS), feed)
        assert (of_targets.shape, log_probs.shape) == ((2, known), (2, 4 - known, whole.shape[-1]))
        np.testing.assert_allclose(of_targets, expected[:, :known], atol=1e-5)
        np.testing.assert_allclose(log_probs, whole[:, known:], atol=1e-5)
        np.testing.assert_allclose(h, state.h, atol=1e-6)


def test_trees_of_prefixes_the_kenlm_module_and_the_sampler_work_with_it(made):
    lines = ["the cat sat", "the cat ran here", "", "a dog"]
    scorer = keraslm.load(made.path, "cpu")
    expected = [line.logprob for line in scorer.score_lines(lines, "sentence")]
    (found,) = keraslm.score_sets(scorer, [lines])
    assert [line.logprob for line in found] == pytest.approx(expected, abs=1e-4)
    model = kenlm.Model(str(made.path))
    assert [model.score(line) for line in lines] == pytest.approx([x / math.log(10) for x in expected], abs=1e-4)
    tokens = list(generate(made.session, "the", 5, Sampling(seed=1), stop_at_eos=False))
    assert len(tokens) == 5


def test_a_tied_table_is_in_the_file_once_and_not_transposed_at_each_call(made, tmp_path):
    words = made.session.info.vocab_size
    for path in (made.path, made.int8) if made.int8.exists() else (made.path,):
        matrices = [value for value in constants_of(onnx.load(path).graph).values() if value.ndim == 2]
        assert sum(min(value.shape) > 1 and words in value.shape for value in matrices) == 2 - made.model.tie_weights
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(tmp_path / "optimized.onnx").graph
        constant = constants_of(graph).keys()
        assert not [node.name for node in graph.node if node.op_type == "Transpose" and node.input[0] in constant]


def test_experts_are_computed_one_after_the_other(made, tmp_path):
    """Each is added to the sum before the next one's distribution is there: memory does not grow with their number."""
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


def test_a_file_with_8_bit_weights_says_the_same(made, tiny_folder):
    if made.model.cell != "lstm":
        with pytest.raises(UsageError, match=rf"^onnxruntime has no layers of --cell {made.model.cell} with 8-bit"):
            keraslm.export(made.run, made.int8, int8=True)
        return
    lines = (tiny_folder / "valid.txt").read_text(encoding="utf-8").splitlines()
    report = compare_files(made.path, made.int8, lines, "document", tolerance=0.01)
    assert report["difference"] != 0
    found = nodes(made.int8)
    assert found["DynamicQuantizeLSTM"] == 2
    # Every left side of a product lies in (-1, 1): hidden states of the last layer, and of the experts.
    assert not {"LSTM", "MatMul", "DynamicQuantizeMatMul"} & found.keys()
    assert found["MatMulIntegerToFloat"] == {"tied": 1, "mixture": 2 * (2 + 3)}[made.kind]
    info = keraslm.ModelSession(made.int8, "cpu").info
    assert (info.precision, info.softmax) == ("int8", made.model.softmax)


def test_a_second_export_gives_the_same_bytes(made, tmp_path):
    if made.kind == "rnn":  # which has most of it
        keraslm.export(made.run, tmp_path / "again.onnx")
        assert (tmp_path / "again.onnx").read_bytes() == made.path.read_bytes()
