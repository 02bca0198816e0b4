"""`keraslm train` is stopped in earnest: signals to a process of its own, and a second trainer."""

from __future__ import annotations

import signal

import pytest

from keraslm.runs.checkpoint import CheckpointStore
from keraslm.system.locks import folder_lock
from tests.support.program import assert_refused
from tests.torture.kill_training import Trainer, end_of


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    from keraslm.system.backend import select_backend

    return Trainer(tmp_path_factory.mktemp("stopped"), select_backend())


def stop(trainer, run, *signals):
    """Train until the first epoch has begun, and send signals; exit code and output."""
    child = trainer.start(run)
    child.training.wait(300)
    for number in signals:
        child.process.send_signal(number)
    return child.wait(), "".join(child.lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_signal_saves_and_prints_how_to_resume(trainer, number, code):
    run = f"one-{code}"
    found, said = stop(trainer, run, number)
    assert found == code, said
    assert "finishing this window and saving" in said
    assert f"everything is saved. Resume with: keraslm train --run {run}" in said and "Traceback" not in said
    checkpoint, damaged = CheckpointStore(trainer.folder / run / "checkpoints").newest()
    assert checkpoint and not damaged
    assert list((trainer.folder / run).rglob(".*")) == []


def test_the_second_sigint_leaves_at_once(trainer):
    found, said = stop(trainer, "two", signal.SIGINT, signal.SIGINT)
    assert found == 130 and "Traceback" not in said, said
    child = trainer.start("two")
    assert child.wait() == 0, "".join(child.lines)
    assert end_of(trainer.folder / "two")[0].epoch == 3


def test_a_second_trainer_is_refused(program, tiny_run):
    before = {path: path.read_bytes() for path in tiny_run.path.rglob("*") if path.is_file()}
    with folder_lock(tiny_run.path):
        for flags in ([], ["--overwrite"]):
            assert_refused(program("train", "--run", tiny_run.path, *flags), f"{tiny_run.path} is locked by process")
    assert {path: path.read_bytes() for path in tiny_run.path.rglob("*") if path.is_file()} == before
