"""The state of files after the k-th disk operation fails, for every k and every kind of fault."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from keraslm.config import Config
from keraslm.errors import RunError
from keraslm.runs.checkpoint import Checkpoint, CheckpointStore
from keraslm.runs.create import create_run
from keraslm.runs.files import state_of
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights, write_weights
from tests.support.failing_disk import (
    DONE,
    FAULTS,
    KILLS,
    KINDS,
    Trial,
    assert_no_strays,
    assert_reported,
    nothing,
    trials,
)
from tests.support.made_run import make_run, random_weights
from tests.support.words import train_words

OLD, NEW = b"old" * 1000, b"new" * 2000


# Runs

TOKENIZER = train_words(["a b c"])
OTHER = train_words(["a b c d e"])


def old_run(folder: Path) -> None:
    with contextlib.chdir(folder):
        run = Run(folder / "run", Config(), OTHER)
        create_run(run, "jax", overwrite=False)
    run.weights_path.write_bytes(OLD)
    run.metrics_path.write_text('{"epoch": 1, "perplexity": 3.0}\n')
    for name in ("checkpoints/0001-00000000/state.json", "tensorboard/events.out.tfevents.1.host"):
        (run.path / name).parent.mkdir(parents=True)
        (run.path / name).write_bytes(OLD)


def made_run(folder: Path) -> None:
    make_run(folder, units=4, embedding_dim=4, num_layers=1)


def create(folder: Path) -> None:
    with contextlib.chdir(folder):
        create_run(Run(folder / "run", Config().replace(units=7), TOKENIZER), "jax", overwrite=True)


def assert_a_new_run(run: Run) -> None:
    assert run.config.model.units == 7 and run.tokenizer.to_json() == TOKENIZER.to_json()
    assert {path.name for path in run.path.iterdir()} >= {"config.json", "tokenizer.json"}
    for name in ("weights.safetensors", "metrics.jsonl", "checkpoints", "tensorboard"):
        assert not (run.path / name).exists()


@pytest.mark.parametrize(("before", "kinds"), [(nothing, ("full-once", *KILLS)), (old_run, KINDS)])
def test_a_folder_holds_the_previous_run_the_new_one_or_none(tmp_path, before, kinds):
    found = trials(before, create, tmp_path, kinds)
    seen = {"old": 0, "new": 0, "none": 0}
    for trial in found:
        path = trial.folder / "run"
        if trial.ended == DONE:  # the fault met `runs/latest`, which is optional
            assert trial.kind in FAULTS and Run.open(path).config.model.units == 7, trial
        else:
            assert_reported(trial, "WriteError")
        assert_no_strays(trial)
        if before is old_run and trial.point <= 8:  # two files: made, opened, written, flushed
            assert Run.open(path).config == Config(), trial
        if state_of(path)[0] in ("none", "incomplete"):
            seen["none"] += 1
            with pytest.raises(RunError, match=r"no such run folder|config\.json is missing|no run yet"):
                Run.open(path)
        elif Run.open(path).config == Config():
            seen["old"] += 1
            files = {name: data for name, data in trial.files().items() if "/." not in name}
            intact = Trial("", 0, DONE, "", tmp_path / "io-once" / "1").files()  # its first operation failed
            assert files.items() >= {name: intact[name] for name in intact if name.startswith("run/")}.items(), trial
        else:
            seen["new"] += 1
            assert_a_new_run(Run.open(path))
        if trial.kind in ("full", "kill-half"):  # a run can be created after a fault
            create(trial.folder)
            assert_a_new_run(Run.open(path))
            assert sorted(inside.name for inside in path.iterdir()) == ["config.json", "tokenizer.json"], trial
    assert seen["new"] and bool(seen["old"]) == (before == old_run)


# Weights and metrics


def replace_weights(folder: Path) -> None:
    run = Run.open(folder / "run")
    write_weights(run.weights_path, random_weights(run.config.model, run.tokenizer.vocab_size, seed=1))


def test_weights_are_either_the_old_or_the_new_ones(tmp_path):
    found = trials(made_run, replace_weights, tmp_path)
    assert len(found) == 7 * len(KINDS)
    for trial in found:
        assert_reported(trial, "WriteError")
        assert_no_strays(trial)
        run = Run.open(trial.folder / "run")
        sizes = run.config.model, run.tokenizer.vocab_size
        kernel = read_weights(run.weights_path, run.shapes())["lstm_0/kernel"]
        seeds = [seed for seed in (0, 1) if np.array_equal(kernel, random_weights(*sizes, seed=seed)["lstm_0/kernel"])]
        assert len(seeds) == 1 and (trial.kind in KILLS or seeds == [trial.point == 7]), trial


ROW = {"epoch": 2, "perplexity": 2.0}


def append(folder: Path) -> None:
    Run.open(folder / "run").append(ROW)


def test_a_row_is_appended_completely_or_not_at_all(tmp_path):
    for trial in trials(old_run, append, tmp_path):
        assert_reported(trial, "WriteError")
        run = Run.open(trial.folder / "run")
        assert run.epochs() in ([{"epoch": 1, "perplexity": 3.0}], [{"epoch": 1, "perplexity": 3.0}, ROW])
        if trial.kind in ("full", "full-once", "io-once", "half"):
            assert json.loads(run.metrics_path.read_text())["epoch"] == 1, trial


# Checkpoints


STATE = {"config": {}, "texts": {}, "surroundings": {}, "log": {"seconds": 1.0, "seen": 0, "sum": 0.0}}


def checkpoint(epoch: int) -> Checkpoint:
    return Checkpoint(epoch, 0, {"model/lstm_0/kernel": np.full((9, 9), epoch, np.float32)}, STATE, "{}\n")


def two_checkpoints(folder: Path) -> None:
    for epoch in (1, 2):
        CheckpointStore(folder / "checkpoints").save(checkpoint(epoch))


def third_checkpoint(folder: Path) -> None:
    CheckpointStore(folder / "checkpoints").save(checkpoint(3))


def test_the_newest_checkpoint_is_intact_after_any_fault(tmp_path):
    found = trials(two_checkpoints, third_checkpoint, tmp_path)
    assert len(found) > 15 * len(KINDS)
    seen = set()
    for trial in found:
        store = CheckpointStore(trial.folder / "checkpoints")
        newest, damaged = store.newest()
        if trial.ended == DONE:  # the disk became read-only when only old files were left to remove
            assert trial.kind == "read-only" and newest and newest.epoch == 3, trial
        else:
            assert_reported(trial)
        assert_no_strays(trial)
        assert newest and newest.epoch in (2, 3) and not damaged, trial
        seen.add(newest.epoch)
        store.save(checkpoint(4))  # removes temporary folders
        assert store.newest()[0].epoch == 4 and len(store.names()) == 2, trial
        assert [path.name for path in store.folder.iterdir() if path.name.startswith(".")] == [], trial
    assert seen == {2, 3}
