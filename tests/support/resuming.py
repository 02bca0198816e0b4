"""Trainings that are stopped by a signal at a chosen moment, and the comparison of two runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager

import keras
import pytest

from keraslm.errors import Interrupted
from keraslm.runs.checkpoint import CheckpointStore
from keraslm.training import fit as training
from keraslm.training.train import train_run


class SignalAt(keras.callbacks.Callback):
    """Send a signal to this process after a window, a validation window or an epoch, before other callbacks act."""

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
            # By a different process: a signal that a process sends to itself may be delivered late.
            subprocess.run(["kill", f"-{self.number.value}", str(os.getpid())], check=True)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Run the test in its own folder: a training creates `runs/latest` in the working directory."""
    monkeypatch.chdir(tmp_path)


@contextmanager
def signal_at(*moment, number=signal.SIGTERM):
    """Send a signal at a moment of a training within the block."""
    create = training.run_callbacks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            training, "run_callbacks", lambda *given, **named: [SignalAt(number, *moment), *create(*given, **named)]
        )
        yield


@pytest.fixture
def stopped(config):
    """Train until a signal at a moment; returns the message of the exception."""

    def train(path, *moment, number=signal.SIGTERM, changes=None):
        with signal_at(*moment, number=number), pytest.raises(Interrupted) as caught:
            quietly(config.replace(**(changes or {})), path)
        assert caught.value.exit_code == 128 + number
        return str(caught.value)

    return train


def quietly(config, path=None, **options):
    """Train without output; returns the run and the lines of progress."""
    lines = []
    run = train_run(config, path, verbose=0, log=lines.append, **options)
    return run, lines


def last(run):
    """The newest checkpoint of a run."""
    return CheckpointStore(run.checkpoints_path).newest()[0]


def assert_same(run, other):
    """All variables, weights and metrics are equal to the last bit, except for times."""
    found, expected = last(run), last(other)
    assert (found.epoch, found.window) == (expected.epoch, expected.window)
    assert found.variables.keys() == expected.variables.keys()
    for name, value in expected.variables.items():
        assert found.variables[name].tobytes() == value.tobytes(), name
    files = [{path.name: path.read_bytes() for path in each.path.glob("*.safetensors")} for each in (run, other)]
    assert files[0] == files[1]
    assert timeless(run) == timeless(other)


def timeless(run):
    """The rows of `metrics.jsonl` without times."""
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in rows]
