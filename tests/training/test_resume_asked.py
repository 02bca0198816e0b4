"""What is asked of a run that is there: refused with the difference, reported, or done."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from keraslm.api import train
from keraslm.errors import ConfigError, RunError, TextError, WriteError
from keraslm.runs.checkpoint import CheckpointStore, read_checkpoint
from keraslm.runs.run import Run
from keraslm.training.checkpoints import SaveCheckpoints
from tests.support.resuming import assert_same, last, quietly

pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_run_that_has_its_epochs_is_left_alone_and_can_be_given_more(config, run_copy):
    before = {path.name: path.read_bytes() for path in run_copy.iterdir() if path.is_file()}
    _, said = quietly(config, run_copy)
    after = {path.name: path.read_bytes() for path in run_copy.iterdir() if path.is_file()}
    assert {**after, "config.json": b""} == {**before, "config.json": b""}
    assert any("it has its 3 epochs; --epochs can be raised" in line for line in said)

    more, _ = quietly(config.replace(epochs=4), run_copy)
    whole, _ = quietly(config.replace(epochs=4), "whole")
    assert_same(more, whole)
    assert Run.open(run_copy).config.train.epochs == 4


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"units": 7}, "units is 6, not 7"),
        ({"learning_rate": 0.5, "seed": 4}, r"learning_rate is 1\.0, not 0\.5; seed is 3, not 4"),
        ({"softmax": "adaptive", "cutoffs": (5,)}, "softmax is 'full', not 'adaptive'; cutoffs is '', not '5'"),
    ],
)
def test_another_configuration_is_refused_with_the_difference(config, run_copy, changes, difference):
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=rf"copy was begun with another configuration: {difference}\. Leave"):
        quietly(config.replace(**changes), run_copy)
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("begun", "flags", "difference"),
    [
        ({"softmax": "adaptive", "cutoffs": (5,)}, {"softmax": "full"}, "softmax is 'adaptive', not 'full'"),
        ({"lowercase": True}, {"tokenizer": "t.json"}, r"tokenizer is 'word', not 't\.json'"),
    ],
)
def test_a_flag_that_does_not_go_with_the_runs_own_is_shown_as_a_difference(config, begun, flags, difference):
    quietly(config.replace(epochs=1, **begun), "run")
    with pytest.raises(ConfigError, match=rf"run was begun with another configuration: {difference}\. Leave"):
        train(run="run", **flags)
    shutil.rmtree("run/checkpoints")  # without any there is no going on, and nothing to differ from
    with pytest.raises(ConfigError, match="belongs to"):
        train(run="run", **flags)


def test_cutoffs_are_the_same_however_they_are_spelled(config):
    again = config.replace(epochs=1, softmax="adaptive", cutoffs=(5, 9))
    quietly(again, "run")
    _, said = quietly(again, "run")
    assert any("it has its 1 epochs" in line for line in said)
    with pytest.raises(ConfigError, match="cutoffs is '5,9', not '5,8'"):
        quietly(again.replace(cutoffs=(5, 8)), "run")


def test_fewer_epochs_than_it_has_leave_a_run_alone(config, run_copy):
    _, said = quietly(config.replace(epochs=2), run_copy)
    assert any("it has its 3 epochs; --epochs can be raised" in line for line in said)


def test_a_configuration_that_was_edited_in_the_folder_is_refused_too(config, run_copy):
    header = json.loads((run_copy / "config.json").read_text())
    header["train"]["clip_norm"] = 1.0
    (run_copy / "config.json").write_text(json.dumps(header))
    with pytest.raises(ConfigError, match=r"clip_norm is 5\.0, not 1\.0"):
        quietly(Run.open(run_copy).config, run_copy)


@pytest.mark.parametrize("which", ["train", "valid"])
def test_another_text_is_refused_and_a_moved_one_is_not(config, run_copy, tmp_path, which):
    text = (tmp_path / "moved.txt", tmp_path / "other.txt")
    original = getattr(config.data, which)[0]
    shutil.copy(original, text[0])
    quietly(config.replace(**{which: str(text[0])}), run_copy)
    lines = text[0].read_text().splitlines(keepends=True)
    text[1].write_text("".join(lines[1:] + lines[:1]))
    with pytest.raises(
        TextError, match=rf"another {which} text: \d+ tokens with SHA-256 [0-9a-f]{{12}}, but this one is"
    ):
        quietly(config.replace(**{which: str(text[1])}), run_copy)
    if which == "valid":
        with pytest.raises(TextError, match="but this one is none"):
            quietly(config.replace(valid=None), run_copy)


def test_another_backend_or_version_is_reported(config, run_copy):
    checkpoint = last(Run.open(run_copy))
    store = CheckpointStore(run_copy / "checkpoints")
    around = checkpoint.state["surroundings"]
    for changed, words in (
        ({**around, "processor": "A5"}, f"processor {around['processor']} (was A5)"),
        ({**around, "backend": "other"}, f"backend {keras.backend.backend()} (was other)"),
        (
            {**around, "keras": "3.0", "cores": 64},
            f"keras {keras.__version__} (was 3.0), cores {around['cores']} (was 64)",
        ),
    ):
        shutil.rmtree(run_copy / "checkpoints")
        store.save(replace(checkpoint, state={**checkpoint.state, "surroundings": changed}))
        _, said = quietly(config, run_copy)
        assert f"          not bit for bit what it would have been: {words}" in said


def test_a_damaged_checkpoint_is_named_with_the_one_before(stopped, config, trained_run):
    stopped("run", 1, 7, None)
    newest = Run.open("run").checkpoints_path / "0001-00000008"
    data = bytearray((newest / "variables.safetensors").read_bytes())
    data[len(data) // 2] ^= 4
    (newest / "variables.safetensors").write_bytes(data)
    with pytest.raises(ConfigError):  # which changes nothing
        quietly(config.replace(units=7), "run")
    assert newest.is_dir()
    run, said = quietly(config, "run")
    assert not newest.is_dir() or read_checkpoint(newest)
    assert (
        "damaged   checkpoint 0001-00000008: variables.safetensors and SHA256SUMS do not agree; "
        "going on from the one before, 0001-00000000"
    ) in said
    assert_same(run, trained_run)


def test_a_damaged_checkpoint_that_cannot_be_removed_is_a_sentence(config, run_copy, monkeypatch):
    (run_copy / "checkpoints" / "0003-00000000" / "state.json").write_text("{}")

    def refuse(self, path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(CheckpointStore, "_remove", refuse)
    with pytest.raises(WriteError, match=r"checkpoints: cannot be written \(Read-only file system\)"):
        quietly(config, run_copy)


def test_where_every_checkpoint_is_damaged_nothing_is_trained(config, run_copy):
    for path in run_copy.glob("checkpoints/*/state.json"):
        path.write_text("{}")
    with pytest.raises(RunError, match=r"every checkpoint is damaged \(0003-00000000: state\.json and .*; 0002-00"):
        quietly(config, run_copy)


def test_resume_never_and_must(config, run_copy):
    with pytest.raises(RunError, match="already holds a run"):
        quietly(config, run_copy, resume="never")
    with pytest.raises(RunError, match="there is no run to go on with"):
        quietly(config, "nowhere", resume="must")


def test_a_run_without_a_checkpoint_begins_again_unless_it_has_weights(config, run_copy, trained_run):
    shutil.rmtree(run_copy / "checkpoints")
    with pytest.raises(RunError, match="holds a run without a checkpoint, so it cannot go on"):
        quietly(config, run_copy)
    (run_copy / "weights.safetensors").unlink()
    with pytest.raises(RunError, match="without a checkpoint"):
        quietly(config, run_copy, resume="must")
    run, said = quietly(config, run_copy)
    assert any(line.endswith("ended before its first checkpoint: it begins again") for line in said)
    assert_same(run, trained_run)


def test_a_training_that_was_killed_before_its_first_checkpoint_begins_again(config, trained_run, monkeypatch):
    """Its weights may be there: they are written a moment earlier."""

    class Killed(BaseException):
        pass

    def killed(self, epoch, logs=None):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SaveCheckpoints, "on_epoch_end", killed)
        quietly(config, "run")
    assert Run.open("run").weights_path.exists() and last(Run.open("run")) is None
    run, said = quietly(config, "run")
    assert any(line.endswith("ended before its first checkpoint: it begins again") for line in said)
    assert_same(run, trained_run)


def test_a_checkpoint_of_another_model_is_refused(config, run_copy):
    checkpoint = last(Run.open(run_copy))
    shutil.rmtree(run_copy / "checkpoints")
    variables = {**checkpoint.variables, "model/lstm_0/h": np.zeros((1, 6), np.float32)}
    CheckpointStore(run_copy / "checkpoints").save(replace(checkpoint, epoch=2, variables=variables))
    with pytest.raises(
        RunError, match=r"0002-00000000: model/lstm_0/h has shape \(1, 6\), but the model's is \(4, 6\)"
    ):
        quietly(config, run_copy)
    del variables["model/lstm_0/h"]
    CheckpointStore(run_copy / "checkpoints").save(replace(checkpoint, epoch=2, window=1, variables=variables))
    with pytest.raises(RunError, match="missing or unexpected variables: model/lstm_0/h"):
        quietly(config, run_copy)


def test_a_read_checkpoint_is_the_one_that_was_saved(trained_run):
    names = CheckpointStore(trained_run.checkpoints_path).names()
    assert names == ["0002-00000000", "0003-00000000"]
    checkpoint = read_checkpoint(trained_run.checkpoints_path / names[1])
    assert (checkpoint.epoch, checkpoint.window, checkpoint.position) == (3, 0, "the end of epoch 3")
    assert checkpoint.metrics == trained_run.metrics_path.read_text()
