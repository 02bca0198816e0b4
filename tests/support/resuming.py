"""Trainings that a signal stops at a moment of their own, and what must be the same in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import keras
import pytest

from keraslm.errors import Interrupted
from keraslm.runs.checkpoint import CheckpointStore
from keraslm.training import train as training
from keraslm.training.train import train_run


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


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
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
    run = train_run(config, path, verbose=0, log=said.append, **options)
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
