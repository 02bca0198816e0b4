"""No command destroys what it reads: it compares all outputs with all inputs, and with each other, before it starts."""

import os
import shutil
import subprocess

import pytest

from tests.support.program import START, assert_refused, environment

OVERWRITES = "this output would overwrite the input"


@pytest.fixture
def folder(fake, tiny_run, tmp_path, monkeypatch):
    """A folder with a model, a text, n-best lists, references, costs and a run."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(fake, "m.onnx")
    shutil.copy(fake, "n.onnx")
    shutil.copytree(tiny_run.path, "run")
    (tmp_path / "data").mkdir()
    for name in ("text", "train", "data/train.txt"):
        (tmp_path / name).write_text("the cat sat\n" * 30)
    (tmp_path / "list").write_text("u1\t1\tthe cat\nu1\t2\tdog\n")
    (tmp_path / "refs").write_text("u1 the cat\n")
    return tmp_path


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


DESTRUCTIVE = [
    ("score m.onnx text", "output", ["text", "m.onnx"]),
    ("score m.onnx --with n.onnx text", "html", ["text", "m.onnx", "n.onnx"]),
    ("score m.onnx text", "plot", ["text", "m.onnx"]),
    ("filter m.onnx text", "output", ["text", "m.onnx"]),
    ("filter m.onnx text", "histogram", ["text", "m.onnx"]),
    ("rescore m.onnx --with n.onnx list --references refs", "output", ["list", "refs", "m.onnx", "n.onnx"]),
    ("tokenize --with m.onnx text", "output", ["m.onnx", "text"]),
    ("tokenize --with run", "output", ["run/weights.safetensors", "run/tokenizer.json", "run/config.json"]),
    ("tokenize --train train --valid text", "output", ["train", "text"]),
    ("tokenize --data data", "output", ["data/train.txt"]),
    ("tokenize --tokenizer run/tokenizer.json", "output", ["run/tokenizer.json"]),
]


@pytest.mark.parametrize(
    ("command", "flag", "path"), [(command, flag, path) for command, flag, paths in DESTRUCTIVE for path in paths]
)
def test_an_output_that_would_destroy_an_input_is_refused(program, folder, command, flag, path):
    (folder / "link").symlink_to(path)
    (folder / "hard").hardlink_to(path)
    before = content(folder)
    for name in (path, f"./{path}", "link", "hard"):
        assert_refused(program(*command.split(), f"--{flag}", name), f"{name.removeprefix('./')}: {OVERWRITES}")
    assert content(folder) == before


def test_two_outputs_are_two_files(program, folder):
    before = content(folder)
    outcome = program("score", "m.onnx", "text", "--output", "x", "--html", "./x")
    assert_refused(outcome, "--output and --html are the same file")
    (folder / "link").symlink_to("x")
    assert_refused(
        program("score", "m.onnx", "text", "--plot", "link", "--html", "x"), "--html and --plot are the same"
    )
    (folder / "link").unlink()
    assert content(folder) == before


@pytest.mark.parametrize("path", ["run/weights.safetensors", "run/tokenizer.json", "run/checkpoints/x", "text"])
def test_an_export_does_not_destroy_its_run(program, folder, path):
    if path.endswith("x"):
        path = str(next(path for path in (folder / "run" / "checkpoints").rglob("*") if path.is_file()))
    before = content(folder)
    assert_refused(program("export", path, "--run", "run", "--int8", "--text", "text"), OVERWRITES)
    assert content(folder) == before


def test_a_folder_of_scores_does_not_destroy_texts_or_models(program, folder):
    (folder / "out").mkdir()
    (folder / "out" / "text.tsv").hardlink_to("text")
    assert_refused(program("score", "m.onnx", "text", "--workers", "1", "--output", "out"), "would be overwritten")
    (folder / "out" / "text.tsv").unlink()
    (folder / "out" / "text.tsv").symlink_to("../m.onnx")
    assert_refused(
        program("score", "m.onnx", "text", "--workers", "1", "--output", "out"), "m.onnx would be overwritten"
    )
    assert (folder / "text").read_text() == "the cat sat\n" * 30


def test_a_pipe_receives_rows_and_stays(folder):
    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True)
    subprocess.run([*START, "score", "m.onnx", "text", "--output", "pipe"], env=environment(), check=True)
    assert reader.communicate(timeout=60)[0].count("\n") == 1 + 30 * 4
    assert (folder / "pipe").is_fifo()
