"""Exporting a run: the contents of the model file, and runs and paths that are refused."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing.spawn
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import keraslm
from keraslm.errors import ExportError, MissingPackageError, RunError, TokenizerError, UsageError
from keraslm.runs.run import Run
from keraslm.scoring import contract
from keraslm.system.processes import ProcessDiedError
from keraslm_export import convert, verify
from tests.support.made_run import make_run
from tests.support.tiny import FIELDS


@pytest.fixture(scope="module")
def proto(tiny_model):
    return onnx.load(tiny_model)


@pytest.fixture(scope="module")
def deep_run(tmp_path_factory):
    """Three layers, and embeddings of a different size."""
    return make_run(tmp_path_factory.mktemp("deep"), num_layers=3, units=4, embedding_dim=7)


@pytest.fixture(scope="module")
def deep_export(deep_run):
    path = deep_run.path.parent / "deep.onnx"
    return keraslm.export(deep_run.path, path), path


@pytest.fixture
def run_copy(tiny_run, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_run.path, tmp_path / "copy"))


def shape_of(value) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_the_report_has_the_differences_from_keras(tiny_report, tiny_model):
    assert (tiny_report.cases, tiny_report.recurrent_nodes, tiny_report.int8) == (4, 1, None)
    assert 0.0 <= tiny_report.largest_difference < 1e-4
    assert 0.0 <= tiny_report.chunked_difference < 1e-4
    assert (tiny_report.path, tiny_report.bytes) == (tiny_model, tiny_model.stat().st_size)
    assert "\n" not in repr(tiny_report)


def test_inputs_and_outputs_are_those_of_the_contract(proto, tiny_run):
    onnx.checker.check_model(proto, full_check=True)
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
        "hidden": (["batch", "time", units], TensorProto.FLOAT),
    }


def test_versions_are_read_by_current_runtimes_and_everything_is_inside_the_file(proto):
    assert proto.ir_version <= 13
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", contract.OPSET)]
    assert {node.domain for node in proto.graph.node} == {""}
    assert (proto.producer_name, proto.producer_version) == ("keraslm", keraslm.__version__)
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in proto.graph.initializer)


def test_the_metadata_describe_the_run(proto, tiny_run):
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    tokenizer = tiny_run.tokenizer
    assert metadata.pop("config") == json.dumps(tiny_run.config.to_dict())
    assert float(metadata.pop("valid_perplexity")) == tiny_run.epochs()[-1]["val_perplexity"]
    assert len(metadata.pop("file_sha256")) == 64
    assert metadata == {
        "format_version": contract.FORMAT_VERSION,
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


def test_the_tokenizer_in_the_file_is_that_of_the_run(tiny_model, tiny_run):
    lines = ["the cat sat", "naïve 日本 zebra", "", "rare0"]
    found = keraslm.load(tiny_model).tokenizer.encode_lines(lines)
    for ids, expected in zip(found, tiny_run.tokenizer.encode_lines(lines), strict=True):
        np.testing.assert_array_equal(ids, expected)


def test_a_run_without_epochs_has_no_validation_perplexity(deep_export):
    report, path = deep_export
    assert report.recurrent_nodes == 3
    info = keraslm.load(path).session.info
    assert np.isnan(info.valid_perplexity)
    assert (info.num_layers, info.hidden_size, info.embedding_dim) == (3, 4, 7)
    assert report.largest_difference < 1e-4


def test_export_leaves_one_file_with_the_usual_permissions(deep_export):
    _, path = deep_export
    assert sorted(p.name for p in path.parent.iterdir()) == ["deep.onnx", "run", "runs"]
    ordinary = path.parent / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode
    ordinary.unlink()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "weights.safetensors"])
@pytest.mark.parametrize("data", [None, b"", b"{}"])
def test_a_run_with_a_missing_or_damaged_file_is_refused(run_copy, existing, name, data):
    (run_copy / name).unlink()
    if data is not None:
        (run_copy / name).write_bytes(data)
    with pytest.raises((RunError, TokenizerError), match=name):
        keraslm.export(run_copy, existing)


@pytest.mark.parametrize("step", ["check_structure", "compare"])
def test_a_graph_that_fails_a_check_is_not_written(tiny_run, tiny_model, existing, monkeypatch, step):
    def refuse(*_):
        raise ExportError(f"{step} says no")

    monkeypatch.setattr("keraslm_export.softmax.convert_softmax", lambda *_: ([], []))
    monkeypatch.setattr("keraslm_export.graph.build_model", lambda *_: onnx.load(tiny_model))
    monkeypatch.setattr(verify, step, refuse)
    with pytest.raises(ExportError, match=f"{step} says no"):
        convert.convert(tiny_run, existing)


def test_a_missing_run_is_refused(tmp_path, existing):
    with pytest.raises(RunError, match="gone: no such run folder"):
        keraslm.export(tmp_path / "gone", existing)


@pytest.mark.parametrize("path", ["gone/model.onnx", ".", "file/model.onnx"])
def test_a_target_that_cannot_be_a_file_is_refused(tiny_run, tmp_path, path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="give the name of a file in a folder that exists"):
        keraslm.export(tiny_run, tmp_path / path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_conversion_that_fails_leaves_no_file(tiny_run, existing, tmp_path, monkeypatch):
    def fail(run, output, target):
        output.write_bytes(b"half of a model")
        raise ExportError("The exported graph differs from Keras: largest difference 0.5 nats.")

    monkeypatch.setattr(convert, "_convert_in_process", fail)
    for path in (existing, tmp_path / "new.onnx"):
        with pytest.raises(ExportError, match=r"largest difference 0\.5"):
            keraslm.export(tiny_run, path)
    assert list(tmp_path.iterdir()) == [existing.parent]


def test_an_error_inside_the_conversion_process_is_raised_again(run_copy, tmp_path):
    run = Run.open(run_copy)
    (run_copy / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        convert._convert_in_process(run, tmp_path / "model.onnx")


def test_a_conversion_process_that_dies_is_reported(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(shutil.which("false")))
    with pytest.raises(ProcessDiedError, match="The process ended with code 1, 3 times"):
        convert._convert_in_process(tiny_run, tmp_path / "model.onnx")


@pytest.mark.parametrize("program", [False, True])
def test_no_module_of_the_current_directory_is_executed(tiny_run, tiny_model, tmp_path, monkeypatch, program):
    for name in ("tokenizers", "onnx", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({name!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])  # as in an interactive session or a script there
    if program:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path[2:]))
        command = [sys.executable, "-P", "-m", "keraslm", "export", "model.onnx", "--run", tiny_run.path]
        subprocess.run(command, check=True, capture_output=True)
    else:
        keraslm.export(tiny_run, "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == tiny_model.read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".py", ".onnx")]


@pytest.mark.parametrize("package", ["keras", "tensorflow", "tf2onnx", "onnx", "safetensors"])
def test_the_error_about_a_missing_package_has_the_pip_line(tiny_run, existing, monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingPackageError) as caught:
        keraslm.export(tiny_run, existing, int8=package == "onnx")
    assert str(caught.value) == (
        f'export needs the package {package}, which is not installed. Run: pip install "keraslm[export]"'
    )
