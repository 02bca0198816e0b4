"""A training that was stopped goes on as if it had not been: every variable, bit for bit."""

from __future__ import annotations

import signal
import sys
from types import SimpleNamespace

import keras
import pytest

from keraslm.network.compile import compiled_model
from keraslm.runs.checkpoint import CheckpointStore
from keraslm.runs.run import Run
from keraslm.training.variables import training_variables
from tests.support.resuming import assert_same, last, quietly, timeless

pytestmark = pytest.mark.usefixtures("own_folder")


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


def test_shuffled_documents_without_a_validation_text_go_on_bit_for_bit(stopped, config):
    changes = {"context": "sentence", "shuffle": True, "valid": None, "epochs": 2}
    whole, _ = quietly(config.replace(**changes), "whole")
    assert not whole.best_weights_path.exists()
    for moment in ((0, 3, None), (1, 4, None)):
        stopped("run", *moment, changes=changes)
    run, _ = quietly(config.replace(**changes), "run")
    assert timeless(run) == timeless(whole)
    assert run.weights_path.read_bytes() == whole.weights_path.read_bytes()


def test_checkpoints_come_every_so_many_windows_and_two_are_kept(stopped, config):
    stopped("run", 0, 10, None, changes={"checkpoint_windows": 4})
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
