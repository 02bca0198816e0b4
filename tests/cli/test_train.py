"""`keraslm train`: what it prints, what it leaves, and what it refuses."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
from pathlib import Path

import pytest

import keraslm
from keraslm.commands.train import better_epoch
from tests.support.program import assert_refused
from tests.support.tiny import text_lines

SIZES = {"units": 4, "num-layers": 1, "epochs": 2, "batch-size": 4, "num-steps": 6}
SMALL = ["--preset=small", "--progress=none", *(f"--{name}={value}" for name, value in SIZES.items())]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Training makes runs/latest in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train_file(text):
    return text("".join(f"{line}\n" for line in text_lines(30, seed=3)), "train.txt")


def assert_made_nothing(folder, *names):
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_run_that_cannot_be_exported_says_so_before_it_starts_and_is_refused(program, train_file):
    outcome = program("train", "--train", train_file, "--run", "run", "--mogrifier-rounds=1", *SMALL)
    reason = "ONNX has no Mogrifier node; the run can be evaluated and loaded in Python, but not exported"
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.strip().split("\n")
    assert lines[-3] == f"export    {reason}"
    assert lines[-1] == "next      keraslm evaluate run TEXT"
    assert_refused(program("export", "--run", "run"), f"run cannot become a model file: {reason}.")


def test_a_folder_of_gzip_files_becomes_a_run(program, folder):
    data = folder / "corpus"
    data.mkdir()
    for name, count in (("my.train.txt.gz", 30), ("my.valid.txt.gz", 10)):
        (data / name).write_bytes(gzip.compress("".join(f"{s}\n" for s in text_lines(count, seed=count)).encode()))

    outcome = program("train", "--data", "corpus", "--run", "runs/mine", *SMALL)

    assert (outcome.code, outcome.err) == (0, "")
    run = keraslm.load_run("runs/latest")
    assert os.path.realpath("runs/latest") == str((folder / "runs" / "mine").resolve())
    titles = [line[:9].strip() for line in outcome.out.strip().split("\n")]
    assert titles == ["tokens", "train", "", "valid", "", "run", "model", "lstm", "done", "next"]
    lines = outcome.out.split("\n")
    assert f"{run.tokenizer.vocab_size:,} in the vocabulary: word, trained on corpus/my.train.txt.gz" in lines[0]
    assert "windows of 4 x 6" in lines[2] and "windows of 4 x 6" in lines[4]
    assert f"on {os.environ['KERAS_BACKEND']}" in lines[5]
    last = run.epochs()[-1]
    assert lines[7] == f"lstm      hand-written {os.environ['KERAS_BACKEND']} kernel, matrix products in float32"
    assert lines[8] == f"done      runs/mine: val_perplexity {last['val_perplexity']:.2f} after epoch 2"
    assert [row["epoch"] for row in run.epochs()] == [1, 2]
    assert run.config.model.units == 4 and run.config.data.data == "corpus"
    names = {path.name for path in run.path.iterdir()}
    assert {"config.json", "tokenizer.json", "weights.safetensors", "metrics.jsonl"} <= names
    assert not {name for name in names if name.startswith(".")}


@pytest.mark.parametrize(
    ("validations", "told"),
    [
        ([90.0, 80.0], ""),
        ([90.0, 70.123, 80.0], "; best 70.12 after epoch 2 (use it with --weights best)"),
        ([None, None], ""),
    ],
)
def test_where_an_earlier_epoch_validated_better_its_number_and_flag_are_told(run_copy, validations, told):
    run = keraslm.load_run(run_copy)
    run.metrics_path.unlink()
    for epoch, value in enumerate(validations, 1):
        run.append({"epoch": epoch, "perplexity": 99.0} | ({} if value is None else {"val_perplexity": value}))
    assert better_epoch(run) == told


def test_the_next_command_is_of_this_run_where_another_was_started_later(program, train_file):
    for name in ("my first", "second"):
        outcome = program("train", "--train", train_file, "--run", f"runs/{name}", *SMALL)
        assert outcome.out.endswith("next      keraslm export model.onnx\n")
    outcome = program("train", "--run", "runs/my first", "--epochs", "3", "--progress", "none")
    assert outcome.out.endswith("next      keraslm export model.onnx --run 'runs/my first'\n")


def test_the_same_command_again_and_any_part_of_it_find_the_run_at_its_end(program, train_file):
    line = ["train", "--train", train_file, "--run", "mine", *SMALL]
    assert program(*line).code == 0
    for again in (line, ["train", "--run", "mine"], ["train", "--run", "mine", *SMALL]):
        outcome = program(*again)
        assert (outcome.code, outcome.err) == (0, "")
        assert "resuming after epoch 2" in outcome.out
        assert "all 2 epochs are finished; raise --epochs to train further" in outcome.out


def test_an_empty_text_is_refused(program, folder, text):
    assert_refused(program("train", "--train", text("", "empty.txt"), *SMALL), "empty.txt: 0 tokens")
    assert_made_nothing(folder, "empty.txt")


def test_a_short_text_is_refused_with_a_batch_size_that_fits(program, folder, text):
    path = text("the cat sat\n" * 5, "short.txt")
    outcome = program("train", "--train", path, *SMALL)
    assert_refused(outcome, f"{path}: 20 tokens", "batch_size 4 x num_steps 6", "at least 28", "--batch-size 2 or less")
    assert_made_nothing(folder, "short.txt")


def test_an_invalid_byte_is_refused_with_its_place(program, folder, text):
    path = text(b"the cat\nsat \xe9\n")
    assert_refused(program("train", "--train", path, *SMALL), f"{path}:2:5: byte 0xe9", "--errors replace")
    assert_made_nothing(folder, "text.txt")


@pytest.mark.parametrize("sign", [["--train=-"], ["--train", "-"]])
def test_standard_input_is_read_once_and_used_as_a_file_would_be(program, folder, train_file, sign):
    text = Path(train_file).read_bytes()
    assert program("train", *sign, "--run", "piped", *SMALL, stdin=text).code == 0
    assert program("train", "--train", train_file, "--run", "read", *SMALL).code == 0
    piped, read = (keraslm.load_run(name) for name in ("piped", "read"))
    assert piped.tokenizer.to_json() == read.tokenizer.to_json()
    assert [row["loss"] for row in piped.epochs()] == [row["loss"] for row in read.epochs()]


def test_standard_input_twice_is_refused(program):
    assert_refused(program("train", "--train", "-", "--valid", "-", *SMALL), "can be read only once")


def test_a_missing_text_is_refused(program, folder):
    assert_refused(program("train", "--train", "gone.txt", *SMALL), "gone.txt: cannot be read")
    assert_refused(program("train", "--data", "gone", *SMALL), "gone: no such folder")
    assert_made_nothing(folder)


def test_a_run_in_the_way_is_refused_and_kept(program, folder, tiny_run, train_file):
    before = {path: path.read_bytes() for path in tiny_run.path.rglob("*") if path.is_file()}
    line = ["train", "--train", train_file, "--run", tiny_run.path]
    outcome = program(*line, "--resume=never", *SMALL)
    assert_refused(outcome, f"{tiny_run.path} already holds a run", "--overwrite")
    assert_refused(
        program(*line, *SMALL), "created with a different configuration", "--units is 8, not 4", "--overwrite"
    )
    assert_refused(program(*line), f"{tiny_run.path} was created with a different training text", "--overwrite")
    assert {path: path.read_bytes() for path in tiny_run.path.rglob("*") if path.is_file()} == before


def test_a_training_that_diverges_ends_with_1_and_advice(program, train_file):
    outcome = program("train", "--train", train_file, "--run", "run", *SMALL, "--learning-rate", "1e38")
    assert_refused(outcome, "loss became", "Try a lower --learning-rate", code=1)
    assert not list(Path("run").glob("*weights*"))


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_a_missing_backend_is_answered_with_the_pip_line(program, folder, monkeypatch, train_file, backend):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == backend else find(name))
    outcome = program("train", "--train", train_file, "--backend", backend, *SMALL)
    assert_refused(outcome, f"needs the package {backend}", f'pip install "keraslm[{backend}]"')
    assert_made_nothing(folder, "train.txt")


def test_no_backend_at_all_is_answered_with_the_pip_line(program, monkeypatch, train_file):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert_refused(program("train", "--train", train_file, *SMALL), 'pip install "keraslm[jax]"')


def test_another_backend_than_that_of_the_process_is_refused(program, monkeypatch, train_file):
    other = "torch" if os.environ["KERAS_BACKEND"] != "torch" else "jax"
    outcome = program("train", "--train", train_file, "--backend", other, *SMALL)
    assert_refused(outcome, f"Keras already runs on {os.environ['KERAS_BACKEND']}", f"but {other} was requested")


def test_bfloat16_trains_on_torch_where_the_processor_has_it_and_nowhere_else(program, folder, train_file):
    outcome = program("train", "--train", train_file, "--run", "run", "--dtype", "bfloat16", *SMALL)
    if outcome.code == 0:
        assert os.environ["KERAS_BACKEND"] == "torch"
        assert "lstm      hand-written torch kernel, matrix products in bfloat16\n" in outcome.out
        assert json.loads(Path("run/config.json").read_text())["train"]["dtype"] == "bfloat16"
        assert program("evaluate", "run", train_file).code == 0
    else:
        assert_refused(outcome, "--dtype bfloat16 would only be slower on this machine", "Use --dtype float32")
        assert_made_nothing(folder, "train.txt")


def test_another_dtype_is_refused_with_the_choices(program, train_file):
    outcome = program("train", "--train", train_file, "--dtype", "float16", *SMALL)
    assert outcome.code == 2 and "float16" in outcome.err
    assert "float32" in outcome.err and "bfloat16" in outcome.err and "Traceback" not in outcome.err


def test_a_missing_tensorboard_is_answered_with_the_pip_line(program, monkeypatch, train_file):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboardX" else find(name))
    outcome = program("train", "--train", train_file, "--tensorboard", *SMALL)
    assert_refused(outcome, 'pip install "keraslm[tensorboard]"')


def test_settings_are_kept_with_the_run(tiny_run):
    config = json.loads((tiny_run.path / "config.json").read_text())
    assert config["versions"]["backend"] == os.environ["KERAS_BACKEND"]
    assert (config["model"]["units"], config["data"]["min_count"], config["train"]["seed"]) == (8, 2, 1)
