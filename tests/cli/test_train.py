"""`keraslm train`: output, files and errors."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
from pathlib import Path

import pytest

import keraslm
from keraslm.commands.train import better_epoch
from tests.support.made_run import make_run
from tests.support.program import assert_refused
from tests.support.tiny import text_lines

SIZES = {"units": 4, "num-layers": 1, "epochs": 2, "batch-size": 4, "num-steps": 6}
SMALL = ["--preset=small", "--progress=none", *(f"--{name}={value}" for name, value in SIZES.items())]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Training creates runs/latest in the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train_file(text):
    return text("".join(f"{line}\n" for line in text_lines(30, seed=3)), "train.txt")


def test_a_mogrifier_is_exported_as_loops(program, train_file):
    outcome = program("train", "--train", train_file, "--run", "run", "--mogrifier-rounds=1", *SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.strip().split("\n")
    assert lines[-1] == "next      keraslm export model.onnx"
    outcome = program("export")
    assert (outcome.code, outcome.err) == (0, "")
    assert "graph     Scan nodes: 1; one loop per layer; all weights finite" in outcome.out.split("\n")
    refusal = "onnxruntime has no LSTMs with a Mogrifier and 8-bit weights; export without --int8."
    assert_refused(program("export", "--int8"), refusal)


def test_a_folder_of_gzip_files_becomes_a_run(program, folder):
    data = folder / "corpus"
    data.mkdir()
    for name, count in (("my.train.txt.gz", 30), ("my.valid.txt.gz", 10)):
        (data / name).write_bytes(gzip.compress("".join(f"{s}\n" for s in text_lines(count, seed=count)).encode()))

    outcome = program("train", "--data", "corpus", "--run", "runs/mine", *SMALL)

    assert (outcome.code, outcome.err) == (0, "")
    run = keraslm.load_run("runs/latest")
    assert json.loads((run.path / "config.json").read_text())["versions"]["backend"] == os.environ["KERAS_BACKEND"]
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
    ("validations", "expected"),
    [
        ([90.0, 80.0], ""),
        ([90.0, 70.123, 80.0], "; best 70.12 after epoch 2 (use it with --weights best)"),
        ([None, None], ""),
    ],
)
def test_a_better_earlier_epoch_is_named_with_its_perplexity_and_flag(tmp_path, validations, expected):
    run = make_run(tmp_path)
    for epoch, value in enumerate(validations, 1):
        run.append({"epoch": epoch, "perplexity": 99.0} | ({} if value is None else {"val_perplexity": value}))
    assert better_epoch(run) == expected


def test_the_next_command_names_the_run_unless_it_is_the_latest(program, train_file):
    first = ["train", "--train", train_file, "--run", "runs/my first", *SMALL]
    for line in (first, ["train", "--train", train_file, "--run", "runs/second", *SMALL]):
        assert program(*line).out.endswith("next      keraslm export model.onnx\n")
    for again in (first, ["train", "--run", "runs/my first"], ["train", "--run", "runs/my first", *SMALL]):
        outcome = program(*again)
        assert (outcome.code, outcome.err) == (0, "")
        assert "resuming after epoch 2" in outcome.out
        assert "all 2 epochs are finished; raise --epochs to train further" in outcome.out
        assert outcome.out.endswith("next      keraslm export model.onnx --run 'runs/my first'\n")


@pytest.mark.parametrize(
    ("content", "flags", "parts"),
    [
        ("", [], ["text.txt: 0 tokens"]),
        (
            "the cat sat\n" * 5,
            [],
            ["text.txt: 20 tokens", "batch_size 4 x num_steps 6", "at least 28", "so short a text"],
        ),
        (b"the cat\nsat \xe9\n", [], ["text.txt:2:5: byte 0xe9", "--errors replace"]),
        ("", ["--train", "gone.txt"], ["gone.txt: cannot be read"]),
        ("", ["--data", "gone"], ["gone: no such folder"]),
        ("", ["--train", "-", "--valid", "-"], ["can be read only once"]),
        ("", ["--data", ".", "--valid-share=0.1"], ["no training text"]),
        ("", ["--valid-share=nan"], ["--valid-share is nan"]),
        ("", ["--valid-share=1"], ["--valid-share is 1.0, but must be a share above 0 and below 1"]),
        ("", ["--train-weights=nan"], ["--train-weights is (nan,), but must be finite numbers"]),
        ("", ["--train-weights=0"], ["--train-weights is (0.0,), but must be numbers from 0.001 to 1000"]),
        ("", ["--train-weights=-1"], ["--train-weights is (-1.0,)"]),
        ("", ["--train-weights=1,1"], ["--train-weights must hold one number per text of --train"]),
        ("one\n", ["--train-weights=0.5"], ["text.txt: --train-weights reads 1/2", "too few lines for 2 pieces"]),
        ("one\n", ["--valid-share=0.1"], ["text.txt: with --valid-share 0.1 no training text is left"]),
        ("", ["--dtype", "float16"], ["float16", "float32", "bfloat16"]),
    ],
)
def test_wrong_texts_and_flags_are_refused_before_anything_is_written(program, folder, text, content, flags, parts):
    path = text(content)
    train = [] if {"--train", "--data"} & {*flags} else ["--train", path]
    assert_refused(program("train", *train, *flags, *SMALL), *parts)
    assert [path.name for path in folder.iterdir()] == ["text.txt"]


def test_a_share_of_a_folder_is_held_out_and_evaluated(program, folder):
    for number in range(10):
        path = folder / "texts" / ("inner" if number > 6 else ".") / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in text_lines(30, seed=number)))
    outcome = program("train", "--train", "texts", "--valid-share=0.2", "--run", "flat", *SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    first, second = outcome.out.split("\n")[:2]
    assert first == "train     texts is a folder; its 7 files are read: 0.txt, 1.txt, ..., 6.txt"
    assert second == "valid     held out: 0.txt (1 of 7 files)"
    outcome = program("train", "--train", "texts/**/*.txt", "--valid-share=0.2", "--run", "deep", *SMALL)
    (note,) = [line for line in outcome.out.split("\n") if "held out" in line]
    names = [f"texts/{'inner/' if name > '6' else ''}{name}.txt" for name in re.findall(r"(\d)\.txt", note)]
    assert note.endswith("(2 of 10 files)") and len(names) == 2
    held, named = program("evaluate", "deep", "--valid"), program("evaluate", "deep", *names)
    assert (held.code, held.out) == (0, named.out)
    again = program("train", "--run", "deep", "--epochs=3")
    assert "resuming after epoch 2" in again.out and note in again.out


def test_texts_are_weighted(program, folder, train_file):
    line = ["train", "--train", train_file, train_file, "--run=run", *SMALL]
    outcome = program(*line, "--train-weights", "2,0.5")
    assert (outcome.code, outcome.err) == (0, "")
    assert f" tokens: 2 x {train_file}, 1/2 x {train_file}\n" in outcome.out
    assert keraslm.load_run("run").config.data.train_weights == (2.0, 0.5)
    assert re.search(r"train_weights +2, 0\.5\n", program("show", "run").out)
    assert_refused(program(*line, "--train-weights=2,1"), "--train-weights is (2.0, 0.5), not (2.0, 1.0)")
    assert_refused(program(*line, "--train-weights=2;1"), "'2;1' is not a list of numbers, such as 2,0.5")


def test_standard_input_is_used_in_the_same_way_as_a_file(program, train_file):
    text = Path(train_file).read_bytes()
    for sign in (["--train=-"], ["--train", "-"]):
        assert program("train", *sign, "--run", "piped", "--overwrite", *SMALL, stdin=text).code == 0
    assert program("train", "--train", train_file, "--run", "read", *SMALL).code == 0
    piped, read = (keraslm.load_run(name) for name in ("piped", "read"))
    assert piped.tokenizer.to_json() == read.tokenizer.to_json()
    assert [row["loss"] for row in piped.epochs()] == [row["loss"] for row in read.epochs()]


def test_an_existing_run_is_kept(program, tiny_run, train_file):
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


@pytest.mark.parametrize(
    ("package", "flags", "extra"),
    [("torch", ["--backend=torch"], "torch"), ("tensorboardX", ["--tensorboard"], "tensorboard")],
)
def test_a_missing_package_is_answered_with_the_pip_line(program, monkeypatch, train_file, package, flags, extra):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    outcome = program("train", "--train", train_file, *flags, *SMALL)
    assert_refused(outcome, f"needs the package {package}", f'pip install "keraslm[{extra}]"')
    assert not Path("runs").exists()


def test_bfloat16_trains_only_on_torch_with_a_fitting_processor(program, train_file):
    outcome = program("train", "--train", train_file, "--run", "run", "--dtype", "bfloat16", *SMALL)
    if outcome.code == 0:
        assert os.environ["KERAS_BACKEND"] == "torch"
        assert "lstm      hand-written torch kernel, matrix products in bfloat16\n" in outcome.out
        assert json.loads(Path("run/config.json").read_text())["train"]["dtype"] == "bfloat16"
        assert program("evaluate", "run", train_file).code == 0
    else:
        assert_refused(outcome, "--dtype bfloat16 would only be slower on this machine", "Use --dtype float32")
        assert not Path("run").exists()
