"""Training in a folder that already holds a run: refused with the difference, logged, or resumed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from keraslm.api.train import train
from keraslm.errors import ConfigError, RunError, TextError, WriteError
from keraslm.runs.checkpoint import Checkpoint, CheckpointStore, read_checkpoint
from keraslm.runs.resume import find_previous_run
from keraslm.runs.run import Run
from keraslm.training.callbacks import EpochWeights, MetricsLog, PrepareEpoch
from keraslm.training.checkpoints import SaveCheckpoints
from tests.support.made_run import make_run
from tests.support.resuming import assert_same, last, quietly, timeless

pytestmark = pytest.mark.usefixtures("own_folder")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def save(folder, checkpoint, **changes):
    """Replace all checkpoints of a run by one."""
    shutil.rmtree(folder / "checkpoints")
    CheckpointStore(folder / "checkpoints").save(replace(checkpoint, **changes))


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_finished_run_is_left_alone(config, run_copy, epochs):
    before = contents(run_copy)
    _, lines = quietly(config.replace(epochs=epochs), run_copy)
    path = run_copy / "config.json"
    assert {**contents(run_copy), path: b""} == {**before, path: b""}
    assert lines[-1] == "          all 3 epochs are finished; raise `epochs` to train further"


def test_a_finished_run_can_be_given_more_epochs(config, run_copy):
    more, _ = quietly(config.replace(epochs=4), run_copy)
    assert_same(more, quietly(config.replace(epochs=4), "complete")[0])
    assert Run.open(run_copy).config.train.epochs == 4


# The configuration

DIFFERENCES = [  # of the run, requested, and the difference, if it is one
    ({}, {"units": 7}, "`units` is 200, not 7"),
    ({}, {"learning_rate": 0.5, "seed": 4}, r"`learning_rate` is 1\.0, not 0\.5; `seed` is 0, not 4"),
    ({}, {"softmax": "adaptive", "cutoffs": (5,)}, r"`softmax` is 'full', not 'adaptive'; `cutoffs` is None, not \(5,"),
    ({"softmax": "adaptive", "cutoffs": (5, 8)}, {"cutoffs": (5, 7)}, r"`cutoffs` is \(5, 8\), not \(5, 7\)"),
    ({"softmax": "adaptive", "cutoffs": (5, 8)}, {"cutoffs": None}, ""),
    ({"lr_schedule": "cosine"}, {"epochs": 14}, "`epochs` is 13, not 14"),
    ({"lr_schedule": "luong234"}, {"epochs": 14}, "`epochs` is 13, not 14"),
    ({}, {"epochs": 14, "log_every": 3, "checkpoint_windows": 5, "early_stopping": 2, "keep_weights": 1}, ""),
    ({}, {"train": "b.txt", "valid": "c.txt", "cache": "d", "checkpoint_minutes": None}, ""),
]


def made_run(folder, **fields):
    """A run with a checkpoint and without a training."""
    run = make_run(folder, **fields)
    state = {"config": run.config.to_dict(), "texts": {}, "surroundings": {}}
    state["log"] = {"seconds": 1.0, "seen": 0, "sum": 0.0}
    checkpoint = Checkpoint(1, 0, {"h": np.zeros(1)}, state)
    CheckpointStore(run.checkpoints_path).save(checkpoint)
    return run


@pytest.mark.parametrize(("fields", "requested", "difference"), DIFFERENCES)
def test_a_different_configuration_is_refused_with_the_difference(tmp_path, fields, requested, difference):
    run = made_run(tmp_path, **fields)
    previous = find_previous_run(run.path, "auto", False, print, Run)
    requested = run.config.replace(**requested)
    if not difference:
        assert previous.resumed_config(requested) == requested.replace(cutoffs=run.config.model.cutoffs)
        return
    message = rf"run was created with a different configuration: {difference}.*\. Leave these out .*`overwrite=True`"
    with pytest.raises(ConfigError, match=message):
        previous.resumed_config(requested)


def test_a_refused_request_changes_nothing(config, run_copy):
    before = contents(run_copy)
    with pytest.raises(ConfigError, match="`units` is 6, not 7"):
        quietly(config.replace(units=7), run_copy)
    assert contents(run_copy) == before


@pytest.mark.parametrize(
    ("fields", "requested", "difference", "contradiction"),
    [
        ({"softmax": "adaptive", "cutoffs": (5,)}, {"softmax": "full"}, "`softmax` is 'adaptive', not 'full'", "needs"),
        ({"lowercase": True}, {"tokenizer": "t.json"}, r"`tokenizer` is 'word', not 't\.json'", "for training a"),
    ],
)
def test_a_field_that_contradicts_the_run_is_reported_as_a_difference(
    tmp_path, fields, requested, difference, contradiction
):
    run = made_run(tmp_path, **fields)
    with pytest.raises(ConfigError, match=rf"created with a different configuration: {difference}\. Leave"):
        train(run=run.path, **requested)
    shutil.rmtree(run.checkpoints_path)  # without a checkpoint, the run is not resumed
    with pytest.raises(ConfigError, match=contradiction):
        train(run=run.path, **requested)


def test_a_configuration_that_was_edited_in_the_folder_is_refused(config, run_copy):
    header = json.loads((run_copy / "config.json").read_text())
    header["train"]["clip_norm"] = 1.0
    (run_copy / "config.json").write_text(json.dumps(header))
    with pytest.raises(ConfigError, match=r"`clip_norm` is 5\.0, not 1\.0"):
        quietly(Run.open(run_copy).config, run_copy)


# Texts and environment


@pytest.mark.parametrize(("which", "title"), [("train", "training"), ("valid", "validation")])
def test_a_different_text_is_refused_and_a_moved_one_is_not(config, run_copy, tmp_path, which, title):
    moved, other = tmp_path / "moved.txt", tmp_path / "other.txt"
    shutil.copy(getattr(config.data, which)[0], moved)
    quietly(config.replace(**{which: moved}), run_copy)
    lines = moved.read_text().splitlines(keepends=True)
    other.write_text("".join(lines[1:] + lines[:1]))
    message = rf"a different {title} text: \d+ tokens with SHA-256 [0-9a-f]{{12}}, but this one is"
    with pytest.raises(TextError, match=message):
        quietly(config.replace(**{which: other}), run_copy)
    if which == "valid":
        with pytest.raises(TextError, match="but this one is none"):
            quietly(config.replace(valid=None), run_copy)


def test_a_different_backend_processor_or_version_is_reported(config, run_copy):
    checkpoint = last(Run.open(run_copy))
    now = checkpoint.state["surroundings"]
    for changed, words in (
        ({"processor": "A5"}, f"processor {now['processor']} (was A5)"),
        ({"backend": "other", "keras": "3.0"}, f"backend {keras.backend.backend()} (was other)"),
        ({"keras": "3.0", "cores": 64}, f"keras {keras.__version__} (was 3.0), cores {now['cores']} (was 64)"),
    ):
        save(run_copy, checkpoint, state={**checkpoint.state, "surroundings": now | changed})
        _, lines = quietly(config, run_copy)
        assert f"          the result may differ in the last bits: {words}" in lines


# Checkpoints


def test_a_damaged_checkpoint_is_reported_and_the_previous_one_resumed(stopped, config, trained_run):
    stopped("run", 1, 7, None)
    newest = Path("run/checkpoints/0001-00000008")
    data = bytearray((newest / "variables.safetensors").read_bytes())
    data[len(data) // 2] ^= 4
    (newest / "variables.safetensors").write_bytes(data)
    with pytest.raises(ConfigError):
        quietly(config.replace(units=7), "run")
    assert newest.is_dir()  # a refused request changes nothing
    run, lines = quietly(config, "run")
    assert not newest.is_dir() or read_checkpoint(newest)
    assert (
        "damaged   checkpoint 0001-00000008: variables.safetensors and SHA256SUMS disagree; "
        "resuming from the previous one, 0001-00000000"
    ) in lines
    assert_same(run, trained_run)


def test_a_damaged_checkpoint_that_cannot_be_removed_is_a_write_error(config, run_copy, monkeypatch):
    (run_copy / "checkpoints" / "0003-00000000" / "state.json").write_text("{}")

    def refuse(self, path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(CheckpointStore, "remove", refuse)
    with pytest.raises(WriteError, match=r"checkpoints: cannot be written \(Read-only file system\)"):
        quietly(config, run_copy)


def test_if_every_checkpoint_is_damaged_nothing_is_trained(config, run_copy):
    for path in run_copy.glob("checkpoints/*/state.json"):
        path.write_text("{}")
    with pytest.raises(RunError, match=r"every checkpoint is damaged \(0003-00000000: state\.json and .*; 0002-00"):
        quietly(config, run_copy)


def test_a_checkpoint_of_a_different_model_is_refused(config, run_copy):
    checkpoint = last(Run.open(run_copy))
    variables = {**checkpoint.variables, "model/lstm_0/h": np.zeros((1, 6), np.float32)}
    save(run_copy, checkpoint, epoch=2, variables=variables)
    with pytest.raises(RunError, match=r"0002-00000000: model/lstm_0/h has shape \(1, 6\), but the model needs \(4, 6"):
        quietly(config, run_copy)
    del variables["model/lstm_0/h"]
    save(run_copy, checkpoint, epoch=2, window=1, variables=variables)
    with pytest.raises(RunError, match="missing or unexpected variables: model/lstm_0/h"):
        quietly(config, run_copy)


def test_a_checkpoint_with_sums_in_one_float32_each_is_resumed(stopped, config, trained_run):
    """As saved before sums had digits beyond float32."""
    stopped("run", 1, 7, None)
    checkpoint = last(Run.open("run"))
    low = {"metrics/loss/total_low", "metrics/loss/count_low", "metrics/perplexity/nats_low"}
    low |= {"metrics/perplexity/tokens_low", "optimizer/mean_norm_low"}
    assert {name for name in checkpoint.variables if name.endswith("_low")} == low
    save(Path("run"), checkpoint, variables={k: v for k, v in checkpoint.variables.items() if k not in low})
    run, _ = quietly(config, "run")
    assert run.weights_path.read_bytes() == trained_run.weights_path.read_bytes()
    for found, expected in zip(timeless(run), timeless(trained_run), strict=True):
        assert found.pop("weights", "") == expected.pop("weights", "")
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_checkpoints_of_a_finished_run(trained_run):
    names = CheckpointStore(trained_run.checkpoints_path).names()
    assert names == ["0002-00000000", "0003-00000000"]
    checkpoint = read_checkpoint(trained_run.checkpoints_path / names[1])
    assert repr(checkpoint) == "Checkpoint(epoch=3, window=0)" and checkpoint.position == "epoch 3"
    assert checkpoint.metrics == trained_run.metrics_path.read_text()


# `resume` and restarts


def test_resume_must_needs_a_run(config):
    with pytest.raises(RunError, match="there is no run to resume"):
        quietly(config, "nowhere", resume="must")


RESTARTED = "was stopped before its first checkpoint"


def test_a_run_without_a_checkpoint_restarts_unless_it_has_weights(config, run_copy, trained_run):
    shutil.rmtree(run_copy / "checkpoints")
    with pytest.raises(RunError, match="holds a run without a checkpoint, which cannot be resumed"):
        quietly(config, run_copy)
    (run_copy / "weights.safetensors").unlink()
    with pytest.raises(RunError, match="without a checkpoint"):
        quietly(config, run_copy, resume="must")
    run, lines = quietly(config, run_copy)
    assert f"restarted {run_copy} {RESTARTED}" in lines
    assert_same(run, trained_run)


class Killed(BaseException):
    pass


def killed(monkeypatch, config, owner, name, count):
    """Train until the `count`-th call of a method, in which the process is killed."""
    calls, original = [], getattr(owner, name)

    def method(*arguments, **named):
        calls.append(arguments)
        if len(calls) == count:
            raise Killed
        return original(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, method)
        quietly(config, "run")


def test_a_training_that_was_killed_before_its_first_checkpoint_restarts(config, monkeypatch):
    config = config.replace(num_layers=1, epochs=1, valid=None)
    killed(monkeypatch, config, SaveCheckpoints, "on_epoch_end", 1)
    assert not Run.open("run").weights_path.exists() and last(Run.open("run")) is None
    run, lines = quietly(config, "run")
    assert f"restarted run {RESTARTED}" in lines
    assert last(run).epoch == 1


@pytest.mark.parametrize(
    ("owner", "name"),
    [(EpochWeights, "on_epoch_end"), (MetricsLog, "on_epoch_end"), (CheckpointStore, "save"), (EpochWeights, "save")],
)
def test_wherever_an_epoch_ends_its_weights_have_their_metrics(config, trained_run, monkeypatch, owner, name):
    killed(monkeypatch, config, owner, name, 2)
    run = Run.open("run")
    assert run.trained_epoch()["epoch"] == 1 and run.read_weights()
    assert_same(quietly(config, "run")[0], trained_run)


def test_a_finished_run_whose_last_checkpoint_is_damaged_falls_back_with_its_weights(config, run_copy):
    (run_copy / "checkpoints" / "0003-00000000" / "state.json").write_text("{}")
    expected = Run.open(run_copy).epochs()
    run, lines = quietly(config.replace(epochs=2), run_copy)
    assert "weights   weights.safetensors was of an epoch after the checkpoint: now of epoch 2" in lines
    for opened in (run, Run.open(run_copy, "best")):
        assert opened.trained_epoch() == expected[1] and opened.read_weights()


def test_weights_of_an_epoch_that_is_trained_again_are_not_read_meanwhile(config, run_copy):
    """The newest checkpoint is damaged, and the training is stopped again within the epoch."""
    run = Run.open(run_copy)
    metrics = "".join(f"{json.dumps(row)}\n" for row in run.epochs()[:2])
    save(run_copy, last(run), epoch=2, window=4, metrics=metrics)
    (run_copy / "checkpoints" / "0003-00000000").mkdir()
    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrepareEpoch, "on_epoch_begin", raise_killed)
        quietly(config, run_copy)
    assert len(run.epochs()) == 2 and not run.weights_path.exists() and not run.best_weights_path.exists()


def raise_killed(*_):
    raise Killed
