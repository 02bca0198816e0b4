"""From a run to a model file: what the file holds, and what is refused without leaving anything behind."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import keraslm
from keraslm.errors import ExportError, MissingPackageError, RunError, TokenizerError, UsageError
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights, write_weights
from keraslm.scoring import contract
from keraslm_export import convert
from tests.support.made_run import make_run
from tests.support.tiny import FIELDS

OLD = b"the model file that was there before"


@pytest.fixture(scope="module")
def proto(tiny_model):
    return onnx.load(tiny_model)


@pytest.fixture(scope="module")
def deep_run(tmp_path_factory):
    """Three layers, and embeddings of another size than the layers."""
    return make_run(tmp_path_factory.mktemp("deep"), num_layers=3, units=4, embedding_dim=7)


@pytest.fixture(scope="module")
def deep_export(deep_run):
    path = deep_run.path.parent / "deep.onnx"
    return keraslm.export(deep_run.path, path), path


@pytest.fixture
def run_copy(tiny_run, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_run.path, tmp_path / "copy"))


@pytest.fixture
def target(tmp_path) -> Path:
    """Where a model file already lies."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "model.onnx"
    path.write_bytes(OLD)
    return path


def assert_untouched(target: Path) -> None:
    assert target.read_bytes() == OLD
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def shape_of(value) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_the_report_says_how_near_the_graph_is_to_keras(tiny_report, tiny_model):
    assert tiny_report.keys() == {"cases", "largest_difference", "chunked_difference", "lstm_nodes", "bytes"}
    assert tiny_report["cases"] == 4
    assert 0.0 <= tiny_report["largest_difference"] < 1e-4
    assert 0.0 <= tiny_report["chunked_difference"] < 1e-4
    assert tiny_report["lstm_nodes"] == 1
    assert tiny_report["bytes"] == tiny_model.stat().st_size


def test_the_file_is_valid_onnx(proto):
    onnx.checker.check_model(proto, full_check=True)


def test_each_layer_is_one_lstm_node_and_nothing_loops(proto, deep_export):
    for graph, layers in ((proto.graph, 1), (onnx.load(deep_export[1]).graph, 3)):
        kinds = [node.op_type for node in graph.node]
        assert kinds.count("LSTM") == layers
        assert not {"Loop", "Scan", "If"} & set(kinds)


def test_inputs_and_outputs_are_those_of_the_contract(proto, tiny_run):
    layers, units, vocabulary = 1, FIELDS["units"], tiny_run.tokenizer.vocab_size
    state = [layers, "batch", units]
    found = {v.name: (shape_of(v), v.type.tensor_type.elem_type) for v in (*proto.graph.input, *proto.graph.output)}
    assert tuple(found) == contract.INPUTS + contract.OUTPUTS
    assert found == {
        "input_ids": (["batch", "time"], TensorProto.INT64),
        "h0": (state, TensorProto.FLOAT),
        "c0": (state, TensorProto.FLOAT),
        "targets": (["batch", "known"], TensorProto.INT64),
        "log_probs": (["batch", "unknown", vocabulary], TensorProto.FLOAT),
        "next_h0": (state, TensorProto.FLOAT),
        "next_c0": (state, TensorProto.FLOAT),
        "target_log_probs": (["batch", "known"], TensorProto.FLOAT),
    }


def test_versions_are_ones_that_current_runtimes_read(proto):
    assert proto.ir_version <= 13
    assert {opset.domain or "ai.onnx": opset.version for opset in proto.opset_import}["ai.onnx"] == contract.OPSET
    assert {node.domain for node in proto.graph.node} == {""}
    assert (proto.producer_name, proto.producer_version) == ("keraslm", keraslm.__version__)


def test_everything_is_inside_the_file(proto, tiny_model):
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in proto.graph.initializer)
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    assert not list(tiny_model.parent.glob("*.data"))


def test_metadata_describe_the_run(proto, tiny_run):
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    tokenizer = tiny_run.tokenizer
    assert metadata.pop("config") == json.dumps(tiny_run.config.to_dict())
    assert float(metadata.pop("valid_perplexity")) == tiny_run.epochs()[-1]["val_perplexity"]
    assert len(metadata.pop("file_sha256")) == 64
    assert metadata == {
        "format_version": "4",
        "keraslm_version": keraslm.__version__,
        "tokenizer": tokenizer.to_json(),
        "tokenizer_sha256": tokenizer.digest,
        "vocab_size": str(tokenizer.vocab_size),
        "unk_id": str(tokenizer.unk_id),
        "bos_id": str(tokenizer.eos_id),
        "eos_id": str(tokenizer.eos_id),
        "num_layers": "1",
        "hidden_size": "8",
        "embedding_dim": "6",
        "softmax": "full",
        "precision": "float32",
    }


def test_the_tokenizer_in_the_file_gives_the_ids_of_the_run(tiny_model, tiny_run):
    lines = ["the cat sat", "naïve 日本 zebra", "", "rare0"]
    found = keraslm.load(tiny_model).tokenizer.encode_lines(lines)
    for ids, expected in zip(found, tiny_run.tokenizer.encode_lines(lines), strict=True):
        np.testing.assert_array_equal(ids, expected)


def test_a_second_export_gives_the_same_bytes(deep_run, deep_export, tmp_path):
    keraslm.export(deep_run, str(tmp_path / "again.onnx"))
    assert (tmp_path / "again.onnx").read_bytes() == deep_export[1].read_bytes()


def test_a_run_without_epochs_has_no_validation_perplexity(deep_export):
    report, path = deep_export
    info = keraslm.load(path).session.info
    assert np.isnan(info.valid_perplexity)
    assert (info.num_layers, info.hidden_size, info.embedding_dim) == (3, 4, 7)
    assert report["largest_difference"] < 1e-4


def test_export_leaves_one_file_with_the_usual_rights(deep_export):
    _, path = deep_export
    assert sorted(p.name for p in path.parent.iterdir()) == ["deep.onnx", "run", "runs"]
    ordinary = path.parent / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode
    ordinary.unlink()


def test_a_weight_that_is_not_a_number_is_named(run_copy, target):
    run = keraslm.load_run(run_copy)
    weights = read_weights(run.weights_path, run.config.model, run.tokenizer.vocab_size)
    weights["lstm_0/recurrent_kernel"][2, 3] = np.nan
    write_weights(run.weights_path, weights)
    with pytest.raises(RunError, match="tensor lstm_0/recurrent_kernel holds 1 values that are NaN or infinite"):
        keraslm.export(run, target)
    assert_untouched(target)


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_weights_that_are_cut_short_are_refused(run_copy, target, size):
    weights = run_copy / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(RunError, match=r"weights\.safetensors: damaged, not a whole safetensors file"):
        keraslm.export(run_copy, target)
    assert_untouched(target)


def test_a_run_without_weights_is_refused(run_copy, target):
    (run_copy / "weights.safetensors").unlink()
    with pytest.raises(RunError, match=r"weights\.safetensors: no weights"):
        keraslm.export(run_copy, target)
    assert_untouched(target)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("data", [None, b"", b"{", b"\x00\xff", b"{}"])
def test_a_run_with_a_missing_or_damaged_file_is_refused(run_copy, target, name, data):
    (run_copy / name).unlink()
    if data is not None:
        (run_copy / name).write_bytes(data)
    with pytest.raises((RunError, TokenizerError), match=name):
        keraslm.export(run_copy, target)
    assert_untouched(target)


@pytest.mark.parametrize("step", ["_to_onnx", "fold_biases", "check_structure", "_file", "compare"])
def test_a_graph_that_fails_a_check_is_not_written(tiny_run, target, monkeypatch, step):
    def refuse(*_):
        raise ExportError(f"{step} says no")

    monkeypatch.setattr("keraslm_export.graph.build_graph", lambda *_: None)
    for name in ("_to_onnx", "fold_biases", "check_structure", "_file"):
        monkeypatch.setattr(convert, name, lambda *_: b"a graph")
    monkeypatch.setattr(convert, "compare", lambda *_: {})
    monkeypatch.setattr(convert, step, refuse)
    with pytest.raises(ExportError, match=f"{step} says no"):
        convert.convert(tiny_run, target)
    assert_untouched(target)


def test_a_cell_without_an_onnx_node_is_refused_before_any_conversion(tmp_path, target, monkeypatch):
    monkeypatch.setattr(convert, "_convert_in_subprocess", lambda *_: pytest.fail("it was converted"))
    run = make_run(tmp_path, units=3, mogrifier_rounds=2)
    with pytest.raises(
        UsageError, match=r"run cannot become a model file: a Mogrifier has no ONNX node, so the run can"
    ):
        convert.export(run, target)
    assert_untouched(target)


def test_a_missing_run_is_refused(tmp_path, target):
    with pytest.raises(RunError, match="gone: no such run folder"):
        keraslm.export(tmp_path / "gone", target)
    assert_untouched(target)


@pytest.mark.parametrize("path", ["gone/model.onnx", ".", "file/model.onnx"])
def test_a_target_that_cannot_be_a_file_is_refused(tiny_run, tmp_path, path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="give the name of a file in a folder that exists"):
        keraslm.export(tiny_run, tmp_path / path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_conversion_that_fails_leaves_the_older_file(tiny_run, target, monkeypatch):
    def fail(run, output):
        output.write_bytes(b"half of a model")
        raise ExportError("The exported graph differs from Keras: largest difference 0.5 nats.")

    monkeypatch.setattr(convert, "_convert_in_subprocess", fail)
    with pytest.raises(ExportError, match=r"largest difference 0\.5"):
        keraslm.export(tiny_run, target)
    assert_untouched(target)


def test_a_conversion_that_fails_leaves_no_file(tiny_run, tmp_path, monkeypatch):
    def fail(run, output):
        output.write_bytes(b"half of a model")
        raise ExportError("no")

    monkeypatch.setattr(convert, "_convert_in_subprocess", fail)
    with pytest.raises(ExportError):
        keraslm.export(tiny_run, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_the_conversion_process_is_passed_on(run_copy, tmp_path):
    # Damaged after the first look of `export`, as it were: the process reads the folder itself.
    run = Run.open(run_copy)
    (run_copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ExportError, match=r"tokenizer\.json"):
        convert._convert_in_subprocess(run, tmp_path / "model.onnx")


def test_a_conversion_process_that_dies_without_an_answer_is_reported(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])  # the process finds no keraslm
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(ExportError, match="The conversion process ended with code 1 without an answer"):
        convert._convert_in_subprocess(tiny_run, tmp_path / "model.onnx")


@pytest.mark.parametrize("package", ["keras", "tensorflow", "tf2onnx", "onnx", "safetensors"])
def test_a_missing_package_is_answered_with_the_pip_line(tiny_run, target, monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingPackageError) as caught:
        keraslm.export(tiny_run, target)
    assert str(caught.value) == (
        f'export needs the package {package}, which is not installed. Run: pip install "keraslm[export]"'
    )
    assert_untouched(target)


def test_an_installation_for_scoring_alone_is_answered_with_the_pip_line(tiny_run, target, monkeypatch):
    # None in sys.modules makes an import fail and find_spec find nothing, as for a package that is not there.
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(MissingPackageError, match=r'pip install "keraslm\[export\]"'):
        keraslm.export(tiny_run, target)
    assert_untouched(target)
