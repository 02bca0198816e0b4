"""Model files with 8-bit weights: structure, numbers, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.numpy_helper import to_array

import keraslm
from keraslm.config import ModelConfig
from keraslm.errors import ExportError, TextError, UsageError
from keraslm.runs.weights import write_weights
from keraslm.scoring import contract
from keraslm.scoring.scorer import Scorer
from keraslm_export import convert, quantize, verify
from keraslm_export.graph import Before, Writer
from keraslm_export.quantize import Int8Writer, quantized
from keraslm_export.verify import Verification, check_structure, comparison_text
from tests.support.made_run import make_run, random_weights


@pytest.fixture(scope="module", params=["full", "adaptive"])
def made(request, tmp_path_factory, tiny_run, tiny_folder):
    """A run, its int8 file, the report and the text: trained, full softmax; random weights, adaptive."""
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
    """Replace the conversion: each output is a copy of the tiny model."""

    def copy_model(run, *outputs, target):
        for path in outputs:
            path.write_bytes(tiny_model.read_bytes())
        return Verification(4, 0.0, 0.0)

    monkeypatch.setattr(convert, "_convert_in_process", copy_model)


def test_inputs_outputs_and_metadata_follow_the_contract(made):
    run, path, report, _ = made
    graph = onnx.load(path).graph
    assert (*(v.name for v in graph.input), *(v.name for v in graph.output)) == contract.INPUTS + contract.OUTPUTS
    info = keraslm.load(path).session.info
    assert info.precision == "int8" and report.recurrent_nodes == run.config.model.num_layers
    assert (info.softmax, info.vocab_size) == (run.config.model.softmax, run.tokenizer.vocab_size)


def test_both_outputs_are_one_distribution(made):
    session = keraslm.ModelSession(made[1])
    size = session.info.vocab_size
    ids = np.random.default_rng(0).integers(0, size, (3, 9))
    log_probs, state = session.run(ids, session.zero_state(3))
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1.0, rtol=1e-5)
    for targets in (np.roll(ids, -1, axis=1), np.zeros_like(ids), np.full_like(ids, size - 1)):  # empty clusters, too
        found, after = session.target_logprobs(ids, targets, session.zero_state(3))
        # In a tail of an adaptive softmax, the scales depend on the tokens in its cluster.
        np.testing.assert_allclose(found, np.take_along_axis(log_probs, targets[..., None], 2)[..., 0], atol=5e-3)
        np.testing.assert_array_equal(after.h, state.h)


def test_any_number_of_targets_is_accepted(made):
    session = onnxruntime.InferenceSession(made[1].read_bytes(), providers=["CPUExecutionProvider"])
    layers, units = made[0].config.model.num_layers, made[0].config.model.units
    zero, ids = np.zeros((layers, 2, units), np.float32), np.array([[0, 3, 1, 2], [4, 4, 0, 1]])
    for known in range(5):
        feed = dict(zip(contract.INPUTS, (ids, zero, zero, ids[:, :known]), strict=True))
        log_probs, _, _, found, _ = session.run(list(contract.OUTPUTS), feed)
        assert (found.shape, log_probs.shape[:2]) == ((2, known), (2, 4 - known))


def test_the_report_compares_perplexity_size_and_speed(made):
    run, path, report, text = made
    lines = text.read_text(encoding="utf-8").splitlines()
    found = report.int8
    assert found.int8.perplexity == keraslm.load(path, "cpu").perplexity(lines, run.config.data.context)
    assert found.difference == found.int8.perplexity / found.float32.perplexity - 1
    assert 0 < abs(found.difference) < 0.05
    assert found.tokens == sum(len(line) for line in run.tokenizer.encode_lines(lines))
    assert found.int8.bytes == report.bytes == path.stat().st_size
    assert found.text == str(text)
    assert min(found.float32.tokens_per_second, found.int8.tokens_per_second) > 0


def test_the_validation_text_of_the_run_is_the_default(tiny_run, tiny_model, tiny_folder, fake_conversion, tmp_path):
    found = keraslm.export(tiny_run, tmp_path / "model.onnx", int8=True, tolerance=0).int8
    lines = (tiny_folder / "valid.txt").read_text(encoding="utf-8").splitlines()
    expected = keraslm.load(tiny_model, "cpu").perplexity(lines, "document")
    assert (found.float32.perplexity, found.int8.perplexity, found.difference) == (expected, expected, 0.0)


def test_lstm_weights_equal_those_of_the_quantizer_of_onnxruntime(tmp_path, monkeypatch):
    """With the range +-127 of onnxruntime; keraslm uses +-63."""
    from onnxruntime.quantization import quantize_dynamic

    monkeypatch.setattr(quantize, "LARGEST", 127)
    rng = np.random.default_rng(3)
    kernel, recurrent = (rng.normal(size=(1, 16, 4)).astype(np.float32) for _ in range(2))
    arrays = kernel, recurrent, np.zeros((1, 32), np.float32)
    float32, int8 = Writer(), Int8Writer(ModelConfig())
    for writer in (float32, int8):
        writer.layer("LSTM", "x", arrays, Before(["h", "c"]), "y", "yh", "yc", hidden_size=4)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        float32.nodes,
        "lstm",
        [value("x", 1, ["t", "n", 4]), value("h", 1, [1, "n", 4]), value("c", 1, [1, "n", 4])],
        [value("y", 1, ["t", 1, "n", 4])],
        [onnx.numpy_helper.from_array(array, name) for name, array in float32.constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    quantize_dynamic(proto, tmp_path / "theirs.onnx", per_channel=True)
    theirs = onnx.load(tmp_path / "theirs.onnx").graph
    (ours,), (node,) = int8.nodes, theirs.node
    assert (ours.op_type, ours.domain, ours.attribute) == (node.op_type, node.domain, node.attribute)
    constants = {tensor.name: to_array(tensor) for tensor in theirs.initializer}
    for mine, other in zip(ours.input, node.input, strict=True):
        assert bool(mine) == bool(other)
        if mine in int8.constants:
            np.testing.assert_allclose(int8.constants[mine], constants[other], rtol=1e-6)


def test_weights_are_the_nearest_integers_of_their_column():
    weight = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    weight[:, 3] = 0
    values, scales = quantized(weight, axis=0)
    assert (values.dtype, scales.shape) == (np.int8, (1, 7))
    assert np.abs(values).max(axis=0).tolist() == [63, 63, 63, 0, 63, 63, 63]
    assert np.all(np.abs(values * scales - weight) <= scales * 0.5001)


def test_sums_of_layers_are_not_clipped(tmp_path):
    """With skip connections the softmax reads values between -3 and 3, and large weights make most exceed 1."""
    text = tmp_path / "text.txt"
    text.write_text("the cat sat\n")
    run = make_run(tmp_path, num_layers=3, units=6, skip_connections=True)
    weights = random_weights(run.config.model, run.tokenizer.vocab_size, scale=3.0)
    write_weights(run.weights_path, weights)
    keraslm.export(run, tmp_path / "int8.onnx", int8=True, text=text, tolerance=10.0)
    session = onnxruntime.InferenceSession((tmp_path / "int8.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    zero, ids = np.zeros((3, 2, 6), np.float32), np.array([[0, 3, 1, 2], [4, 4, 0, 1]])
    feed = dict(zip(contract.INPUTS, (ids, zero, zero, ids[:, :0]), strict=True))
    hidden, found = session.run([contract.HIDDEN, contract.LOG_PROBS], feed)
    assert np.abs(hidden).max() > 2 and np.mean(np.abs(hidden) > 1) > 0.2
    logits = hidden.astype(np.float64) @ weights["logits/kernel"] + weights["logits/bias"]
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    assert np.abs(found - expected).max() < 0.5  # rounding; clipping to 1 makes it 3.6


def test_a_different_perplexity_is_refused_and_leaves_the_existing_file(
    tiny_run, existing, fake_conversion, monkeypatch
):
    answers = iter([8.0, 8.1, 8.0, math.nan])
    monkeypatch.setattr(Scorer, "perplexity", lambda *_: next(answers))
    with pytest.raises(ExportError) as caught:
        keraslm.export(tiny_run, existing, int8=True)
    assert str(caught.value) == (
        "The int8 model has perplexity 8.1000 and the float32 model 8.0000: the difference is +1.25 %, but at most "
        "0.5 % is allowed (`tolerance`). Not published. Export without `int8`."
    )
    with pytest.raises(ExportError, match="perplexity nan"):
        keraslm.export(tiny_run, existing, int8=True)


def test_a_float32_graph_is_refused(tiny_model):
    with pytest.raises(ExportError, match=r"must have 1 DynamicQuantizeLSTM nodes, .*, but has 1 LSTM\. Not published"):
        check_structure(onnx.load(tiny_model), 1, "DynamicQuantizeLSTM")


def test_a_matrix_in_float32_is_refused(made):
    proto = onnx.load(made[1])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "extra"))
    with pytest.raises(ExportError, match=r"matrix extra of the int8 graph is float32\. Not published"):
        check_structure(proto, made[0].config.model.num_layers, "DynamicQuantizeLSTM")


@pytest.mark.parametrize(("name", "message"), [("gone.txt", "cannot be read"), ("empty.txt", "the text is empty")])
def test_a_text_that_cannot_be_used_is_refused_before_the_conversion(tiny_run, existing, tmp_path, name, message):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(TextError, match=f"{name}: {message}"):
        keraslm.export(tiny_run, existing, int8=True, text=tmp_path / name)


def test_the_text_is_not_replaced(tiny_run, tmp_path):
    (tmp_path / "texts").mkdir()
    text = tmp_path / "texts" / "only.txt"
    text.write_text("the cat\n")
    for name in (text, text.parent, tmp_path / "texts" / "*.txt"):
        with pytest.raises(UsageError, match=r"only\.txt: this output would overwrite the input .*only\.txt"):
            keraslm.export(tiny_run, text, int8=True, text=name)
    assert text.read_text() == "the cat\n"


def test_a_run_without_its_texts_needs_a_text(tmp_path):
    run = make_run(tmp_path, train="gone.txt")
    with pytest.raises(TextError, match=r"gone\.txt: cannot be read .* Or choose a text to compare .* with `text`\.$"):
        keraslm.export(run, tmp_path / "model.onnx", int8=True)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    "fields", [{"train": "-"}, {"train": "gone.txt", "valid": "-"}, {"train": "-", "valid_share": 0.1}]
)
def test_standard_input_is_not_read_again(tmp_path, fields):
    with pytest.raises(TextError, match=r"its (training|validation) text was standard input\. .* with `text`\.$"):
        comparison_text(make_run(tmp_path, **fields))


def test_the_end_of_the_training_text_replaces_a_missing_validation_text(tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "_TAIL", 2)
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    name, lines = comparison_text(make_run(tmp_path, train=str(tmp_path / "train.txt")))
    assert (name, lines) == (f"the end of {tmp_path / 'train.txt'}", ["b", "c"])


def test_contradicting_arguments_are_refused(tiny_run, existing):
    with pytest.raises(UsageError, match=r"`text` is used only .* needs `int8=True`"):
        keraslm.export(tiny_run, existing, text="text.txt")
    for tolerance in (-0.1, math.nan):
        with pytest.raises(UsageError, match=r"^`tolerance` is .*, but must be at least 0, e\.g\. 0\.005\.$"):
            keraslm.export(tiny_run, existing, int8=True, tolerance=tolerance)
