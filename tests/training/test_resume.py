"""A training run that was stopped and resumed ends with the same variables, bit for bit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keraslm.network.compile import compiled_model
from keraslm.network.parts import describe_cell
from keraslm.runs.run import Run
from keraslm.text import window_lengths
from keraslm.training.schedule import learning_rate_of
from keraslm.training.variables import training_variables
from tests.support.resuming import assert_same, last, quietly, signal_at, timeless

pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_training_that_is_stopped_again_and_again_ends_bit_for_bit_the_same(
    stopped, config, corpus, trained_run, backend
):
    windows = len(corpus[1])
    moments = {
        "after window 1 of epoch 1": (0, 0, None),
        "after window 2 of epoch 1": (0, 1, None),
        "in the validation of epoch 1": (0, None, 0),
        "after window 8 of epoch 2": (1, 7, None),
        f"after window {windows} of epoch 2": (1, windows - 1, None),
        "in the validation of epoch 2": (1, None, 1),
        "after epoch 2": (1, None, None),
        f"after window {windows} of epoch 3": (2, windows - 1, None),
        "in the validation of epoch 3": (2, None, 0),
    }
    for when, moment in moments.items():
        message = f"SIGTERM {when}; everything is saved. Resume with: keraslm train --run run"
        assert stopped("run", *moment, changes={"checkpoint_windows": 4}) == message
    run, lines = quietly(config, "run", resume="must")
    assert f"run       run on {backend}, resuming after window {windows} of epoch 3" in lines
    assert not any("may differ" in line for line in lines)
    assert_same(run, trained_run)


def test_sigint_exits_with_130(stopped):
    """A thread reads it, perhaps one window later. Background jobs of a shell ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert stopped("run", 0, 3, None, number=signal.SIGINT).startswith("SIGINT ")
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_checkpoint_contains_every_variable_of_model_optimizer_and_metrics(config, corpus, trained_run):
    model = compiled_model(config, corpus[0].vocab_size)
    model.optimizer.build(model.trainable_variables)
    inputs, targets = corpus[1][0]
    model.test_on_batch([inputs, targets], targets)
    named = training_variables(model)
    every = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    assert {id(variable) for variable in named.values()} == {id(variable) for variable in every}
    names = set(last(trained_run).variables)
    assert names == set(named)
    assert {"model/lstm_0/h", "model/lstm_1/c", "model/lstm_0/seed_generator_state", "metrics/loss/total"} <= names
    assert {"optimizer/iteration", "optimizer/learning_rate", "model/embedding/embeddings"} <= names


def test_tensorboard_gets_the_rest_of_an_epoch_and_those_after_it(stopped, config, corpus, monkeypatch):
    class Writer:
        def __init__(self, folder):
            self.closed, self.steps = False, []
            writers.append(self)

        def add_scalar(self, name, value, step):
            assert not self.closed  # within the same second, tensorboardX would open a file of the same name
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


# Techniques: together they use every kind of state

TECHNIQUES = {
    "shuffled sentences, no validation text": {"context": "sentence", "shuffle": True, "valid": None},
    "gru, adaptive softmax, adamw, cosine, warm-up": {
        "cell": "gru",
        "dropconnect": 0.2,
        "softmax": "adaptive",
        "cutoffs": (5,),
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "lr_schedule": "cosine",
        "warmup_epochs": 0.5,
        "weight_decay": 0.1,
    },
    "rnn, sampled softmax": {"cell": "rnn", "dropconnect": 0.2, "softmax": "sampled", "num_sampled": 8},
    "mogrifier, tied mixture, every dropout": {
        "mogrifier_rounds": 2,
        "mogrifier_rank": 2,
        "input_gate": "capped",
        "context": "sentence",
        "softmax": "mixture",
        "num_layers": 2,
        "layer_units": (6, 4),
        "tie_weights": True,
        "embedding_row_dropout": 0.2,
        "dropconnect": 0.3,
        "last_dropout": 0.2,
        "locked_dropout": True,
        "num_experts": 2,
        "expert_dropout": 0.3,
    },
    "varying windows, averages, regularization, kept weights": {
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
    "frozen layers, averages, decay, a second validation text": {
        "freeze": ("embedding", "lstm_0/bias"),
        "num_layers": 2,
        "input_gate": "tied",
        "skip_connections": True,
        "average_from": 3,
        "weight_decay": 0.01,
        "also_valid": "also.txt",
        "epochs": 4,
    },
}


@pytest.mark.parametrize("technique", TECHNIQUES.values(), ids=TECHNIQUES)
def test_every_technique_is_resumed_bit_for_bit(stopped, config, technique, monkeypatch):
    changes = {"num_layers": 1, "epochs": 2, **technique}
    shutil.copy(config.data.train[0], "also.txt")
    monkeypatch.setattr(window_lengths, "DEVIATION", 0.5)  # JAX compiles once per length
    # Dropout differs by backend, and so would the epoch in which averaging starts.
    monkeypatch.setattr(
        "keraslm.training.callbacks.averaging_since", lambda interval, rows: 2 if interval and rows[1:] else None
    )
    complete, lines = quietly(config.replace(**changes), "complete")
    epochs = changes["epochs"]
    assert complete.best_weights_path.exists() == (changes.get("valid", "") is not None)
    assert list(complete.kept_weights()) == ([3, 4] if "keep_weights" in changes else [])
    assert sum(line.startswith("average ") for line in lines) == complete.config.train.averages
    model = complete.config.model
    assert f"{model.cell:<10}{describe_cell(model)}" in lines
    for moment in ((epochs - 2, None, None), (epochs - 1, 4, None)):
        stopped("run", *moment, changes=changes)
    assert_same(quietly(config.replace(**changes), "run")[0], complete)


# Early stopping

EARLY = {
    "num_layers": 1,
    "lr_schedule": "plateau",
    "learning_rate": 6.0,  # far too high: validations jump, on every backend
    "lr_decay": 0.9,
    "early_stopping": 2,
    "epochs": 16,
}


@pytest.fixture(scope="module")
def early(config, tmp_path_factory):
    """A run that was stopped early, and its lines of progress."""
    with contextlib.chdir(tmp_path_factory.mktemp("early")):
        return quietly(config.replace(**EARLY), Path("run").resolve())


def test_a_run_that_was_stopped_early_reports_it_and_can_be_given_more_patience(config, early, tmp_path):
    run, lines = early
    rows, best = run.epochs(), int(np.argmin([row["val_perplexity"] for row in run.epochs()]))
    line = (
        f"stopped   early after epoch {best + 3}: no validation better than that of epoch {best + 1} "
        "(`early_stopping=2`)"
    )
    assert lines[-1] == line and len(rows) == best + 3 < 16
    rates = [row["learning_rate"] for row in rows]
    assert rates == [learning_rate_of(run.config.train, epoch, rows) for epoch in range(len(rows))]
    assert rates[-1] < rates[0]

    copy = shutil.copytree(run.path, tmp_path / "copy")
    again, lines = quietly(config.replace(**EARLY), copy)
    assert lines[-1] == line and again.epochs() == rows
    more = config.replace(**EARLY | {"early_stopping": None, "epochs": len(rows) + 1})
    assert_same(quietly(more, copy)[0], quietly(more, "complete")[0])


def test_a_signal_after_the_last_epoch_does_not_interrupt_an_early_stop(config, early, stopped):
    run, _ = early
    stopped("run", len(run.epochs()) - 2, None, 1, changes=EARLY)
    with signal_at(len(run.epochs()) - 1):
        resumed, lines = quietly(config.replace(**EARLY), "run")
    assert lines[-1].startswith("stopped   early") and timeless(resumed) == timeless(run)
    assert_same(resumed, run)


# Earlier versions


def to_format_1(run):
    """Rewrite a run folder as version 1 wrote it."""
    values = run.config.to_dict()
    model, data, train = values["model"], values["data"], values["train"]
    model |= {"layer_units": "6,5", "cutoffs": "", "embedding_dim": 5, "mogrifier_rank": 0}
    model |= {"last_dropout": -1.0, "embedding_init_scale": 0.0}
    data |= {"documents": "line", "shuffle_documents": True, "data": "", "cache": "", "eos_token": "", "unk_token": ""}
    del data["context"], data["shuffle"]
    train |= {"checkpoint_every": "3w", "clip_norm": 0.0, "nonmonotone_interval": 0, "early_stopping": 0}
    del train["checkpoint_minutes"], train["checkpoint_windows"]
    header = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**header, **values, "format_version": 1}))
    for folder in run.checkpoints_path.iterdir():
        state = json.loads((folder / "state.json").read_text())
        assert state["format_version"] == 1
        (folder / "state.json").write_text(json.dumps(state | {"config": values}))
        files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
        (folder / "SHA256SUMS").write_text("".join(lines))


def test_a_run_of_format_1_is_opened_and_resumed_bit_for_bit(stopped, config):
    changes = {"layer_units": (6, 5), "context": "sentence", "shuffle": True, "clip_norm": None, "epochs": 2}
    changes |= {"checkpoint_windows": 3, "checkpoint_minutes": None}
    complete, _ = quietly(config.replace(**changes), "complete")
    stopped("run", 1, 4, None, changes=changes)
    to_format_1(Run.open("run"))
    opened = Run.open("run")
    assert opened.config == complete.config and len(opened.epochs()) == 1
    resumed, _ = quietly(opened.config, "run")
    assert_same(resumed, complete)
    assert json.loads(Path("run/config.json").read_text())["format_version"] == 2
    assert Run.open("run").config == complete.config
