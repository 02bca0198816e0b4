"""Writing a model file or scores to a disk whose k-th operation fails, for every k."""

from __future__ import annotations

import contextlib
import functools
import io
import subprocess
from pathlib import Path
from unittest import mock

import pytest

import keraslm
import keraslm.scoring.scorer  # once, not in each fork
from keraslm.cli import run as program
from keraslm.scoring.targets import Target
from keraslm_export import convert
from keraslm_export.verify import Verification
from tests.support import fake_model
from tests.support.failing_disk import FAULTS, KILLED, KILLS, KINDS, trials
from tests.support.made_run import make_speech_run
from tests.support.program import START, environment

OLD = b"the file that was there before"
REASONS = ("No space left on device", "Input/output error", "Read-only file system")


def nothing(folder: Path) -> None:
    """Leave the folder empty."""


def older(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(OLD)
    (folder / "scores.tsv").write_bytes(OLD)


def publish(run: Path, model: Path, folder: Path, target: Target = "onnx") -> None:
    """Export without converting: the model file exists already."""

    def converted(_: Path, output: Path, target: str) -> Verification:
        output.write_bytes(model.read_bytes())
        return Verification(4, 0.0, 0.0)

    with mock.patch.object(convert, "_convert_in_process", converted):
        keraslm.export(run, folder / "model.onnx", target=target)


@pytest.mark.parametrize("before", [nothing, older])
def test_a_model_file_is_the_old_or_the_new_one(tiny_run, tiny_model, tmp_path, before):
    new, old = tiny_model.read_bytes(), None if before is nothing else OLD
    found = trials(before, functools.partial(publish, tiny_run.path, tiny_model), tmp_path)
    assert len(found) == 7 * len(KINDS)  # open twice, write, chmod, fsync, rename, fsync of the folder
    for trial in found:
        content = trial.files().get("model.onnx")
        assert content in (old, new), trial
        assert trial.ended == (KILLED if trial.kind in KILLS else "WriteError"), trial
        if trial.kind in FAULTS:
            assert content == (new if trial.point == 7 else old), trial
            assert trial.message.startswith(f"{trial.folder / 'model.onnx'}: cannot be written ("), trial
            assert any(reason in trial.message for reason in REASONS), trial
            assert trial.kind == "read-only" or trial.strays() == [], trial


def older_pair(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(OLD)
    (folder / "model.vocab.txt").write_bytes(OLD)


def test_files_that_belong_together_are_old_or_new(tiny_model, tmp_path):
    (tmp_path / "run").mkdir()
    run, new = make_speech_run(tmp_path / "run", units=4), tiny_model.read_bytes()
    publish(run.path, tiny_model, tmp_path / "run", "rasr")
    vocabulary = (tmp_path / "run" / "model.vocab.txt").read_bytes()
    found = trials(older_pair, functools.partial(publish, run.path, tiny_model, target="rasr"), tmp_path)
    assert len(found) > 10 * len(KINDS)  # twice the operations of one file, but for the folder
    for trial in found:
        contents = trial.files().get("model.vocab.txt"), trial.files().get("model.onnx")
        # The vocabulary takes its place first.
        assert contents in ((OLD, OLD), (vocabulary, OLD), (vocabulary, new)), trial
        assert trial.ended == (KILLED if trial.kind in KILLS else "WriteError"), trial
        assert trial.kind not in FAULTS or trial.kind == "read-only" or trial.strays() == [], trial
    assert sum(trial.files()["model.vocab.txt"] == OLD for trial in found) > len(found) / 2


def score(model: Path, text: Path, folder: Path) -> None:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = program(["score", str(model), str(text), "--output", str(folder / "scores.tsv")])
    if code or errors.getvalue():
        raise RuntimeError(f"{code} {errors.getvalue()}")


def test_scores_are_the_old_or_the_new_ones(tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat\n" * 300)
    act = functools.partial(score, fake_model.write(tmp_path / "fake.onnx"), tmp_path / "text.txt")
    found = trials(older, act, tmp_path, ("half", "read-only"))
    assert max(trial.point for trial in found) > 8  # several writes
    for trial in found:
        assert trial.message.startswith("1 keraslm: "), trial
        assert trial.message.count("\n") == 1 and "scores.tsv: cannot be written (" in trial.message, trial
        assert any(reason in trial.message for reason in REASONS), trial
        last = max(other.point for other in found if other.kind == trial.kind)
        assert (trial.files()["scores.tsv"] == OLD) == (trial.point < last), trial
        assert trial.kind == "read-only" or trial.strays() == [], trial


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("level", ["token", "summary"])
def test_a_full_disk_behind_standard_output_is_reported(tmp_path, level):
    (tmp_path / "text.txt").write_text("the cat sat\n" * 1000)
    model = fake_model.write(tmp_path / "fake.onnx")
    line = [*START, "score", str(model), str(tmp_path / "text.txt"), "--level", level]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False)
    message = "keraslm: standard output: cannot be written (No space left on device).\n"
    assert (done.returncode, done.stderr) == (1, message)
