"""`keraslm export`."""

from __future__ import annotations

import re
import shutil

import pytest

from keraslm import load
from tests.support.program import assert_refused


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_latest_run_is_exported_and_verified_by_default(program, folder, tiny_run, tiny_model):
    (folder / "runs").mkdir()
    (folder / "runs" / "latest").symlink_to(tiny_run.path, target_is_directory=True)

    outcome = program("export")

    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(
        r"export    runs/latest -> model\.onnx: .*\n"
        r"verified  4 shapes; largest difference Keras - onnxruntime \d\.\d\de-\d\d nats, "
        r"one pass - chunks \d\.\d\de[-+]\d\d nats\n"
        r"graph     LSTM nodes: 1; no loops; all weights finite\n"
        r"done      model\.onnx \(0\.0 MB\)\n",
        outcome.out,
    )
    assert load("model.onnx").score("the cat sat") == load(tiny_model).score("the cat sat")
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "runs"]


def test_wrong_runs_and_files_are_refused(program, folder, tiny_run):
    run = ("--run", tiny_run.path)
    assert_refused(program("export"), "runs/latest: no such run folder. Train one first: keraslm train")
    assert_refused(program("export", "model.onnx", "--run", "gone"), "gone: no such run folder")
    outcome = program("export", "gone/model.onnx", *run)
    assert_refused(outcome, "gone/model.onnx: give the name of a file in a folder that exists")
    assert_refused(program("export", *run, "--int8", "--text", "gone.txt"), "gone.txt: cannot be read")
    assert_refused(program("export", *run, "--text", "text.txt"), "needs --int8")
    assert list(folder.iterdir()) == []
    assert_refused(program("export", "--run", "."), "not a run folder, config.json is missing")


def test_damaged_weights_leave_an_existing_model(program, folder, tiny_run):
    copy = shutil.copytree(tiny_run.path, folder / "copy")
    (copy / "weights.safetensors").write_bytes(b"\x00" * 100)
    (folder / "model.onnx").write_bytes(b"older")
    assert_refused(program("export", "--run", "copy"), "copy/weights.safetensors: damaged")
    assert (folder / "model.onnx").read_bytes() == b"older"
    assert sorted(path.name for path in folder.iterdir()) == ["copy", "model.onnx"]


def test_an_int8_file_is_compared_with_the_float32_file(program, folder, tiny_run, tiny_folder):
    text = tiny_folder / "valid.txt"
    outcome = program("export", "--run", tiny_run.path, "--int8", "--text", text, "--tolerance", "0.1")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(
        r"\nint8      perplexity \d+\.\d{3} -> \d+\.\d{3} \([+-]0\.\d{3} %\) on \d+ tokens of .*valid\.txt\n"
        r"          0\.0 MB -> 0\.0 MB; [\d,]+ -> [\d,]+ tokens per second \(\d+\.\d times\)\n"
        r"done      model\.onnx \(0\.0 MB\)\n$",
        outcome.out,
    )
    assert load("model.onnx").session.info.precision == "int8"
