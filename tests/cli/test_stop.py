"""Signals to commands and to separate training processes, and a second trainer."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from keraslm.runs.checkpoint import CheckpointStore
from keraslm.scoring import session
from keraslm.system.backend import select_backend
from keraslm.system.locks import folder_lock
from tests.support.program import START, assert_refused, environment
from tests.support.tiny import text_lines
from tests.torture.kill_training import Trainer


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return Trainer(tmp_path_factory.mktemp("stopped"), select_backend())


def stop(trainer, run, *signals):
    """Train until the first epoch starts, and send signals; returns the exit code and the output."""
    child = trainer.start(run)
    child.training.wait(300)
    for number in signals:
        child.process.send_signal(number)
    return child.wait(), "".join(child.lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_signal_saves_and_prints_the_command_to_resume(trainer, number, code):
    run = f"one-{code}"
    found, out = stop(trainer, run, number)
    assert found == code, out
    assert "finishing this window and saving" in out
    assert f"everything is saved. Resume with: keraslm train --run {run}" in out and "Traceback" not in out
    checkpoint, damaged = CheckpointStore(trainer.folder / run / "checkpoints").newest()
    assert checkpoint and not damaged
    assert list((trainer.folder / run).rglob(".*")) == []


def test_the_second_sigint_leaves_at_once(trainer):
    found, out = stop(trainer, "two", signal.SIGINT, signal.SIGINT)
    assert found == 130 and "Traceback" not in out, out
    assert CheckpointStore(trainer.folder / "two" / "checkpoints").newest()[1] == {}


def test_a_second_trainer_is_refused(program, tiny_run):
    before = {path: path.read_bytes() for path in tiny_run.path.rglob("*") if path.is_file()}
    with folder_lock(tiny_run.path):
        for flags in ([], ["--overwrite"]):
            assert_refused(program("train", "--run", tiny_run.path, *flags), f"{tiny_run.path} is locked by process")
    assert {path: path.read_bytes() for path in tiny_run.path.rglob("*") if path.is_file()} == before


def test_sigterm_ends_any_command_with_143(program, fake, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(session, "ModelSession", lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
    outcome = program("show", fake)
    assert (outcome.code, outcome.err) == (128 + signal.SIGTERM, "keraslm: terminated\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_while_the_text_is_read_leaves_no_files(tmp_path):
    pipe, temporaries = subprocess.PIPE, tmp_path / "tmp"
    temporaries.mkdir()
    process = subprocess.Popen(
        [*START, "train", "--train", "-", "--run", "run", "--cache", str(temporaries)],
        cwd=tmp_path,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=environment() | {"TMPDIR": str(temporaries)},
    )
    text = "".join(f"{line}\n" for line in text_lines(30, seed=3)).encode()
    process.stdin.write(text * (2**20 // len(text)))  # more than fits into a pipe, so that the program is reading
    process.stdin.flush()
    process.send_signal(signal.SIGTERM)
    process.stdin.close()  # Python may be waiting for more
    assert process.wait() == 143
    assert process.stderr.read() == b"keraslm: terminated\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert list(temporaries.iterdir()) == []
    process.stdout.close()
    process.stderr.close()
