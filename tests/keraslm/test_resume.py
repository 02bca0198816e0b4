"""A training that was stopped goes on as if it had not been: every variable, bit for bit."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keraslm import training
from keraslm.api import train
from keraslm.checkpoint import CheckpointStore, read_checkpoint
from keraslm.checkpointing import SaveCheckpoints
from keraslm.compile import compiled_model
from keraslm.errors import ConfigError, Interrupted, RunError, TextError, WriteError
from keraslm.run import Run
from keraslm.schedule import learning_rate_of
from keraslm.text import window_lengths
from keraslm.training import train_run
from keraslm.variables import training_variables


class SignalAt(keras.callbacks.Callback):
    """Sends this process a signal at a moment of the training: before the training's own callbacks see it."""

    def __init__(self, number, epoch, window=None, validating=None):
        super().__init__()
        self.number, self.at = number, (epoch, window, validating)
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.send(self.epoch, batch, None)

    def on_test_batch_end(self, batch, logs=None):
        self.send(self.epoch, None, batch)

    def on_epoch_end(self, epoch, logs=None):
        self.send(epoch, None, None)

    def send(self, *now):
        if now == self.at:
            # From outside: what a process sends itself is delivered when the system likes.
            subprocess.run(["kill", f"-{self.number.value}", str(os.getpid())], check=True)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stopped(config, monkeypatch):
    """Train until a signal at a moment; gives what the exception says."""

    def train(path, *moment, number=signal.SIGTERM, changes=None, **options):
        made = training.run_callbacks

        def with_signal(*arguments, **rest):
            return [SignalAt(number, *moment), *made(*arguments, **rest)]

        with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
            patch.setattr(training, "run_callbacks", with_signal)
            quietly(config.replace(**(changes or {})), path, **options)
        assert caught.value.exit_code == 128 + number
        return str(caught.value)

    return train


def quietly(config, path, **options):
    said = []
    run = train_run(config, path, verbose=0, say=said.append, **options)
    return run, said


def last(run):
    return CheckpointStore(run.checkpoints_path).newest()[0]


def assert_same(run, other):
    """All variables, weights and metrics, to the last bit; the clock is let off."""
    found, expected = last(run), last(other)
    assert (found.epoch, found.window) == (expected.epoch, expected.window)
    assert found.variables.keys() == expected.variables.keys()
    for name, value in expected.variables.items():
        assert found.variables[name].tobytes() == value.tobytes(), name
    for path in (run.weights_path, run.best_weights_path):
        assert path.read_bytes() == (other.path / path.name).read_bytes()
    assert timeless(run) == timeless(other)


def timeless(run):
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in rows]


MOMENTS = {
    "after the first window": (0, 0, None),
    "in the middle of an epoch": (1, 7, None),
    "in a validation": (1, None, 1),
    "in the last validation": (2, None, 0),
    "at the end of an epoch": (0, None, None),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_training_stopped_by_a_signal_goes_on_bit_for_bit(stopped, config, trained_run, moment):
    message = stopped("run", *moment)
    assert message.startswith("SIGTERM ") and message.endswith(
        "everything is saved. Go on with: keraslm train --run run"
    )
    run, said = quietly(config, "run", resume="must")
    assert_same(run, trained_run)
    assert not any("not bit for bit" in line for line in said)


def test_after_the_last_window_of_an_epoch_only_its_validation_is_left(stopped, config, trained_run, corpus):
    windows = len(corpus[1])
    message = stopped("run", 1, windows - 1, None)
    assert f"after window {windows} of epoch 2" in message
    run, said = quietly(config, "run")
    assert f"run       run on {keras.backend.backend()}, going on after window {windows} of epoch 2" in said
    assert_same(run, trained_run)


def test_a_training_that_is_stopped_again_and_again_ends_as_one_that_never_was(stopped, config, trained_run):
    for moment in ((0, 2, None), (0, 3, None), (0, None, 0), (1, 1, None), (1, None, None), (2, 9, None)):
        stopped("run", *moment)
    run, _ = quietly(config, "run")
    assert_same(run, trained_run)


def test_sigint_is_answered_with_130(stopped):
    """Heard by a thread of its own, so perhaps a window later. A shell's background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert stopped("run", 0, 3, None, number=signal.SIGINT).startswith("SIGINT ")
    finally:
        signal.signal(signal.SIGINT, before)


MIXTURE = {  # and every mask there is
    "softmax": "mixture",
    "layer_units": "6,4",
    "tie_weights": True,
    "embedding_row_dropout": 0.2,
    "dropconnect": 0.3,
    "last_dropout": 0.2,
    "locked_dropout": True,
    "num_experts": 2,
    "expert_dropout": 0.3,
}


@pytest.mark.parametrize(
    "changes",
    [{"softmax": "adaptive", "cutoffs": "5"}, {"softmax": "sampled", "num_sampled": 8}, MIXTURE],
    ids=lambda changes: changes["softmax"],
)
def test_every_softmax_goes_on_bit_for_bit(stopped, config, changes):
    changes = {**changes, "epochs": 2}
    whole, _ = quietly(config.replace(**changes), "whole")
    stopped("run", 1, 4, None, changes=changes)
    run, _ = quietly(config.replace(**changes), "run")
    assert_same(run, whole)


@pytest.mark.parametrize(
    "changes",
    [{"cell": "gru"}, {"mogrifier_rounds": 2, "mogrifier_rank": 2, "documents": "line"}],
    ids=["gru", "mogrifier"],
)
def test_other_cells_go_on_bit_for_bit(stopped, config, changes):
    changes = {**changes, "num_layers": 1, "dropconnect": 0.2, "epochs": 2}
    whole, _ = quietly(config.replace(**changes), "whole")
    stopped("run", 1, 4, None, changes=changes)
    run, _ = quietly(config.replace(**changes), "run")
    assert_same(run, whole)


# Together they use all that a training keeps besides weights and states. The rate of the second spoils what it learned.
TECHNIQUES = {
    "adamw, cosine, warm-up": {
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "lr_schedule": "cosine",
        "warmup_epochs": 0.5,
        "weight_decay": 0.1,
    },
    "varying windows, averages, regularization, decay": {
        "learning_rate": 10.0,
        "lr_decay": 1.0,
        "variable_windows": True,
        "nonmonotone_interval": 1,
        "average_across_timesteps": True,
        "activation_regularization": 2.0,
        "temporal_regularization": 1.0,
        "weight_decay": 0.001,
        "keep_weights": 2,
        "epochs": 4,
    },
    "plateau, early end": {
        "lr_schedule": "plateau",
        "learning_rate": 6.0,  # far too much: validations jump, on every backend
        "lr_decay": 0.9,
        "early_stopping": 2,
        "epochs": 16,
    },
}


@pytest.fixture(params=TECHNIQUES.values(), ids=TECHNIQUES)
def technique(request):
    return {"num_layers": 1, **request.param}


def test_every_technique_goes_on_bit_for_bit(stopped, config, technique, monkeypatch):
    monkeypatch.setattr(window_lengths, "DEVIATION", 0.5)  # JAX compiles once for each length
    # Dropout is another on each backend, and so is the epoch in which a training begins to average.
    monkeypatch.setattr("keraslm.epoch.averaging_since", lambda interval, rows: 2 if interval and rows[1:] else None)
    whole, said = quietly(config.replace(**technique), "whole")
    epochs = len(whole.epochs())
    for moment in ((epochs - 2, None, 1), (epochs - 1, 4, None)):
        stopped("run", *moment, changes=technique)
    run, _ = quietly(config.replace(**technique), "run")
    assert_same(run, whole)
    kept = whole.kept_weights()
    assert list(kept) == [epochs - 1, epochs][2 - technique.get("keep_weights", 0) :]
    assert [path.read_bytes() for path in run.kept_weights().values()] == [path.read_bytes() for path in kept.values()]
    if "nonmonotone_interval" in technique:
        assert sum(line.startswith("average ") for line in said) == 1
    if "early_stopping" in technique:
        assert epochs < 16 and said[-1].startswith("ended     early after epoch")


def test_a_run_that_has_ended_early_says_so_and_can_be_given_more_patience(config):
    changes = TECHNIQUES["plateau, early end"]
    run, said = quietly(config.replace(**changes), "run")
    rows, best = run.epochs(), int(np.argmin([row["val_perplexity"] for row in run.epochs()]))
    line = (
        f"ended     early after epoch {best + 3}: none has validated better than epoch {best + 1} (--early-stopping 2)"
    )
    assert said[-1] == line and len(rows) == best + 3
    rates = [row["learning_rate"] for row in rows]
    assert rates == [learning_rate_of(run.config.train, epoch, rows) for epoch in range(len(rows))]
    assert rates[-1] < rates[0]
    _, said = quietly(config.replace(**changes), "run")
    assert said[-1] == line and run.epochs() == rows
    more = {**changes, "early_stopping": 0, "epochs": len(rows) + 1}
    run, _ = quietly(config.replace(**more), "run")
    whole, _ = quietly(config.replace(**more), "whole")
    assert_same(run, whole)


def test_an_early_end_is_the_end_of_tensorboards_file_too_and_of_signals(config, stopped, monkeypatch):
    """A signal at the last epoch's end comes too late to stop anything."""
    changes = TECHNIQUES["plateau, early end"]
    whole, _ = quietly(config.replace(**changes), "whole")
    made = training.run_callbacks

    def with_signal(*arguments, **rest):
        return [SignalAt(signal.SIGTERM, len(whole.epochs()) - 1), *made(*arguments, **rest)]

    monkeypatch.setattr(training, "run_callbacks", with_signal)
    run, said = quietly(config.replace(**changes), "run")
    assert said[-1].startswith("ended     early") and timeless(run) == timeless(whole)


def test_more_epochs_are_refused_where_the_rates_follow_from_their_number(config):
    changes = {"epochs": 1, "lr_schedule": "cosine"}
    quietly(config.replace(**changes), "run")
    with pytest.raises(ConfigError, match=r"epochs is 1, not 2\. Leave"):
        quietly(config.replace(**changes | {"epochs": 2}), "run")


def test_a_technique_that_looks_at_validations_leaves_no_run_without_a_validation_text(config):
    with pytest.raises(ConfigError, match="no validation text: --valid"):
        quietly(config.replace(valid="", early_stopping=1), "run")
    assert not Path("run").exists()


def test_overwriting_removes_kept_weights(config):
    quietly(config.replace(keep_weights=1, epochs=1), "run")
    assert Path("run/weights-001.safetensors").read_bytes() == Path("run/weights.safetensors").read_bytes()
    quietly(config.replace(epochs=1), "run", overwrite=True)
    assert not Path("run/weights-001.safetensors").exists()


def test_shuffled_documents_without_a_validation_text_go_on_bit_for_bit(stopped, config):
    changes = {"documents": "line", "shuffle_documents": True, "valid": "", "epochs": 2}
    whole, _ = quietly(config.replace(**changes), "whole")
    assert not whole.best_weights_path.exists()
    for moment in ((0, 3, None), (1, 4, None)):
        stopped("run", *moment, changes=changes)
    run, _ = quietly(config.replace(**changes), "run")
    assert timeless(run) == timeless(whole)
    assert run.weights_path.read_bytes() == whole.weights_path.read_bytes()


def test_checkpoints_come_every_so_many_windows_and_two_are_kept(stopped, config):
    stopped("run", 0, 10, None, changes={"checkpoint_every": "4w"})
    assert CheckpointStore(Run.open("run").checkpoints_path).names() == ["0000-00000008", "0000-00000011"]


def test_a_checkpoint_holds_every_variable_of_model_optimizer_and_metrics(config, corpus, trained_run):
    model = compiled_model(config, corpus[0].vocab_size)
    model.optimizer.build(model.trainable_variables)
    (inputs, targets), labels = (corpus[1][0], corpus[1][0][1])
    model.test_on_batch([inputs, targets], labels)
    named = training_variables(model)
    every = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    assert {id(variable) for variable in named.values()} == {id(variable) for variable in every}
    names = set(last(trained_run).variables)
    assert names == set(named)
    assert {"model/lstm_0/h", "model/lstm_1/c", "model/lstm_0/seed_generator_state", "metrics/loss/total"} <= names
    assert {"optimizer/iteration", "optimizer/learning_rate", "model/embedding/embeddings"} <= names


def test_best_weights_are_those_of_the_epoch_that_validated_best(config):
    # A learning rate of this size spoils what the first epochs have learned.
    run, _ = quietly(config.replace(epochs=3, lr_decay=1.0, learning_rate=3.0), "run")
    perplexities = [row["val_perplexity"] for row in run.epochs()]
    best = int(np.argmin(perplexities)) + 1
    assert best < 3
    first, _ = quietly(config.replace(epochs=best, lr_decay=1.0, learning_rate=3.0), "first")
    assert run.best_weights_path.read_bytes() == first.weights_path.read_bytes()


def test_tensorboard_has_the_rest_of_a_broken_epoch_and_those_after_it(stopped, config, corpus, monkeypatch):
    class Writer:
        def __init__(self, folder):
            self.closed, self.steps = False, []
            writers.append(self)

        def add_scalar(self, name, value, step):
            assert not self.closed  # tensorboardX would open a file of the same name, if it is the same second
            self.steps.append(step)

        def flush(self):
            pass

        def close(self):
            self.closed = True

    writers = []
    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    stopped("run", 0, len(corpus[1]) - 1, None)
    quietly(config, "run", tensorboard=True)
    (writer,) = writers
    assert sorted(set(writer.steps)) == [1, 2, 3] and writer.closed


# What is asked of a run that is there


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
        ({"softmax": "adaptive", "cutoffs": "5"}, "softmax is 'full', not 'adaptive'; cutoffs is '', not '5'"),
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
        ({"softmax": "adaptive", "cutoffs": "5"}, {"softmax": "full"}, "softmax is 'adaptive', not 'full'"),
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
    again = config.replace(epochs=1, softmax="adaptive", cutoffs=" 5, 09")
    quietly(again, "run")
    _, said = quietly(again, "run")
    assert any("it has its 1 epochs" in line for line in said)
    with pytest.raises(ConfigError, match="cutoffs is '5,9', not '5,8'"):
        quietly(again.replace(cutoffs="5,8"), "run")


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
            quietly(config.replace(valid=""), run_copy)


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
