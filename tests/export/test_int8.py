"""Model files with 8-bit weights: structure, numbers, and what is refused."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

import keraslm
from keraslm.errors import ExportError, MissingPackageError, TextError, UsageError
from keraslm.scoring import contract
from keraslm_export import quantize
from keraslm_export.quantize import check_int8, comparison_text, quantized_weights
from keraslm_export.simplify import constants_of
from tests.support.made_run import make_run

OLD = b"the model file that was there before"


@pytest.fixture(scope="module", params=["full", "adaptive"])
def made(request, tmp_path_factory, tiny_run, tiny_folder):
    """A run, its int8 file and what the export reported: trained, full softmax; random, adaptive."""
    folder = tmp_path_factory.mktemp("int8")
    run = tiny_run
    if request.param == "adaptive":
        fields = {"softmax": "adaptive", "cutoffs": (2, 5), "num_layers": 2, "units": 4, "context": "sentence"}
        run = make_run(folder, **fields)
    text = tiny_folder / "valid.txt"
    report = keraslm.export(run, folder / "int8.onnx", int8=True, text=text, tolerance=0.1)
    return run, folder / "int8.onnx", report, text


@pytest.fixture
def fake_conversion(monkeypatch, tiny_model):
    """The conversion gives two copies of the tiny model, without the half minute that it takes."""

    def convert(run, *outputs):
        for path in outputs:
            path.write_bytes(tiny_model.read_bytes())
        return {"cases": 4, "largest_difference": 0.0, "chunked_difference": 0.0, "lstm_nodes": 1}

    monkeypatch.setattr(convert, "_convert_in_subprocess", convert)


@pytest.fixture
def target(tmp_path):
    """Where a model file already lies."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "model.onnx"
    path.write_bytes(OLD)
    return path


def assert_untouched(target):
    assert target.read_bytes() == OLD
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_each_layer_is_one_quantised_lstm_node_and_nothing_loops(made):
    run, path, _, _ = made
    graph = onnx.load(path).graph
    nodes = Counter(node.op_type for node in graph.node)
    assert nodes["DynamicQuantizeLSTM"] == run.config.model.num_layers
    assert not {"LSTM", "MatMul", "Loop", "Scan", "If"} & nodes.keys()
    kinds = {name: value.dtype for name, value in constants_of(graph).items() if value.ndim > 1 and value.size > 64}
    assert all(kind == np.int8 for kind in kinds.values()) or run.config.model.units == 4


def test_inputs_outputs_and_metadata_keep_the_contract(made):
    run, path, _, _ = made
    graph = onnx.load(path).graph
    assert (*(v.name for v in graph.input), *(v.name for v in graph.output)) == contract.INPUTS + contract.OUTPUTS
    info = keraslm.load(path).session.info
    assert info.precision == "int8"
    assert (info.softmax, info.vocab_size) == (run.config.model.softmax, run.tokenizer.vocab_size)


def test_both_outputs_are_one_distribution(made):
    session = keraslm.ModelSession(made[1])
    size = session.info.vocab_size
    ids = np.random.default_rng(0).integers(0, size, (3, 9))
    log_probs, state = session.run(ids, session.zero_state(3))
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1.0, rtol=1e-5)
    for targets in (np.roll(ids, -1, axis=1), np.zeros_like(ids), np.full_like(ids, size - 1)):  # clusters empty, too
        found, after = session.target_logprobs(ids, targets, session.zero_state(3))
        # Inside a tail of an adaptive softmax, scales are those of the tokens that need it.
        np.testing.assert_allclose(found, np.take_along_axis(log_probs, targets[..., None], 2)[..., 0], atol=5e-3)
        np.testing.assert_array_equal(after.h, state.h)


def test_the_perplexities_are_those_of_the_scorer(made, tmp_path):
    run, path, report, text = made
    lines = text.read_text(encoding="utf-8").splitlines()
    context = run.config.data.context
    found = report["int8"]
    assert found["perplexity"][1] == keraslm.load(path, "cpu").perplexity(lines, context)
    assert found["difference"] == found["perplexity"][1] / found["perplexity"][0] - 1
    assert 0 < abs(found["difference"]) < 0.05
    assert found["tokens"] == sum(len(line) for line in run.tokenizer.encode_lines(lines))
    assert found["bytes"][1] == report["bytes"] == path.stat().st_size
    assert found["text"] == str(text)
    assert min(found["tokens_per_second"]) > 0


def test_the_float32_perplexity_is_that_of_the_float32_file(
    tiny_run, tiny_model, tiny_folder, fake_conversion, tmp_path
):
    report = keraslm.export(tiny_run, tmp_path / "model.onnx", int8=True, tolerance=0)  # on its own validation text
    lines = (tiny_folder / "valid.txt").read_text(encoding="utf-8").splitlines()
    expected = keraslm.load(tiny_model, "cpu").perplexity(lines, "document")
    assert report["int8"]["perplexity"] == [expected, expected]
    assert report["int8"]["difference"] == 0.0


def test_a_second_export_gives_the_same_bytes(made, tmp_path):
    run, path, _, text = made
    keraslm.export(run, tmp_path / "again.onnx", int8=True, text=text, tolerance=0.1)
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_lstm_weights_are_those_of_onnxruntimes_own_quantiser(tmp_path, monkeypatch):
    """At +-127, for +-63 is ours alone."""
    from onnxruntime.quantization import quantize_dynamic

    monkeypatch.setattr(quantize, "LARGEST", 127)
    rng = np.random.default_rng(3)
    kernel, recurrent = (rng.normal(size=(1, 16, 4)).astype(np.float32) for _ in range(2))
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("LSTM", ["x", "w", "r", "b", "", "h", "c"], ["y", "yh", "yc"], hidden_size=4)],
        "lstm",
        [value("x", 1, ["t", "n", 4]), value("h", 1, [1, "n", 4]), value("c", 1, [1, "n", 4])],
        [value("y", 1, ["t", 1, "n", 4])],
        [
            onnx.numpy_helper.from_array(array, name)
            for name, array in {"w": kernel, "r": recurrent, "b": np.zeros((1, 32), np.float32)}.items()
        ],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    quantize_dynamic(proto, tmp_path / "theirs.onnx", per_channel=True)
    theirs = onnx.load(tmp_path / "theirs.onnx").graph
    quantize._quantize_lstms(proto.graph)
    (ours,), (node,) = proto.graph.node, theirs.node
    assert (ours.op_type, ours.domain, ours.attribute) == (node.op_type, node.domain, node.attribute)
    for mine, other in zip(ours.input, node.input, strict=True):
        assert bool(mine) == bool(other)
        if mine in constants_of(proto.graph):
            np.testing.assert_allclose(constants_of(proto.graph)[mine], constants_of(theirs)[other], rtol=1e-6)


def test_weights_are_the_nearest_integers_of_their_column():
    weight = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    weight[:, 3] = 0
    values, scales = quantized_weights(weight, axis=0)
    assert (values.dtype, scales.shape) == (np.int8, (1, 7))
    assert np.abs(values).max(axis=0).tolist() == [63, 63, 63, 0, 63, 63, 63]
    assert np.all(np.abs(values * scales - weight) <= scales * 0.5001)


def test_another_perplexity_is_refused_and_leaves_the_older_file(tiny_run, target, fake_conversion, monkeypatch):
    answers = iter([8.0, 8.1])
    monkeypatch.setattr(quantize, "perplexity", lambda nats, tokens: next(answers))
    with pytest.raises(ExportError) as caught:
        keraslm.export(tiny_run, target, int8=True)
    assert str(caught.value) == (
        "The int8 model has perplexity 8.1000 and the float32 model 8.0000: a difference of +1.25 %, but at most "
        "0.5 % are allowed (--tolerance). Not published. Export without --int8."
    )
    assert_untouched(target)


def test_a_perplexity_that_is_no_number_is_refused(tiny_run, tmp_path, fake_conversion, monkeypatch):
    monkeypatch.setattr(quantize, "perplexity", lambda nats, tokens: math.nan)
    with pytest.raises(ExportError, match="Not published"):
        keraslm.export(tiny_run, tmp_path / "model.onnx", int8=True)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_was_not_quantised_is_refused(tiny_model):
    with pytest.raises(ExportError, match=r"has 0 quantised and 1 other LSTM nodes, .* float32 matrices weight_"):
        check_int8(onnx.load(tiny_model), 1)


def test_a_text_that_cannot_be_read_is_refused_before_anything_is_converted(tiny_run, target):
    with pytest.raises(TextError, match=r"gone\.txt: cannot be read"):
        keraslm.export(tiny_run, target, int8=True, text="gone.txt")
    assert_untouched(target)


def test_an_empty_text_is_refused(tiny_run, target, tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(TextError, match=r"empty\.txt: the text is empty"):
        keraslm.export(tiny_run, target, int8=True, text=tmp_path / "empty.txt")
    assert_untouched(target)


def test_without_any_text_one_is_asked_for(tmp_path):
    run = make_run(tmp_path, train="gone.txt")
    with pytest.raises(TextError, match=r"the run's own cannot be read \(gone\.txt: .*\) Name one: --text$"):
        keraslm.export(run, tmp_path / "model.onnx", int8=True)
    assert not (tmp_path / "model.onnx").exists()


def test_the_end_of_the_training_text_stands_in_for_a_validation_text(tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "_TAIL", 2)
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    name, lines = comparison_text(make_run(tmp_path, train=str(tmp_path / "train.txt")))
    assert (name, lines) == (f"the end of {tmp_path / 'train.txt'}", ["b", "c"])


def test_options_of_int8_alone_are_refused(tiny_run, target):
    with pytest.raises(UsageError, match="pass --int8, too"):
        keraslm.export(tiny_run, target, text="text.txt")
    for tolerance in (-0.1, math.nan):
        with pytest.raises(UsageError, match=r"^tolerance is .*, but must be at least 0, e\.g\. 0\.005\.$"):
            keraslm.export(tiny_run, target, int8=True, tolerance=tolerance)
    assert_untouched(target)


def test_missing_packages_are_answered_with_the_pip_line(tiny_run, target, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    with pytest.raises(MissingPackageError, match=r'Run: pip install "keraslm\[export\]"$'):
        keraslm.export(tiny_run, target, int8=True)
    assert_untouched(target)


def test_the_float32_graph_adds_no_bias_apart_and_counts_no_rows(tiny_model):
    nodes = Counter(node.op_type for node in onnx.load(tiny_model).graph.node)
    assert not {"Add", "GatherND", "Range", "Not"} & nodes.keys()
    assert (nodes["MatMul"], nodes["Pad"], nodes["GatherElements"]) == (1, 1, 1)


def test_a_whole_text_of_targets_and_none_are_answered(made):
    session = onnxruntime.InferenceSession(made[1].read_bytes(), providers=["CPUExecutionProvider"])
    layers, units = made[0].config.model.num_layers, made[0].config.model.units
    zero, ids = np.zeros((layers, 2, units), np.float32), np.array([[0, 3, 1, 2], [4, 4, 0, 1]])
    for known in range(5):
        feed = dict(zip(contract.INPUTS, (ids, zero, zero, ids[:, :known]), strict=True))
        log_probs, _, _, found = session.run(list(contract.OUTPUTS), feed)
        assert (found.shape, log_probs.shape[:2]) == ((2, known), (2, 4 - known))
