"""Every kind of network and training goes on bit for bit; what keeps, ends and averages epochs."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from keraslm.errors import ConfigError
from keraslm.text import window_lengths
from keraslm.training import train as training
from keraslm.training.schedule import learning_rate_of
from tests.support.resuming import SignalAt, assert_same, quietly, timeless

pytestmark = pytest.mark.usefixtures("own_folder")


MIXTURE = {  # and every mask there is
    "softmax": "mixture",
    "layer_units": (6, 4),
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
    [{"softmax": "adaptive", "cutoffs": (5,)}, {"softmax": "sampled", "num_sampled": 8}, MIXTURE],
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
    [
        {"cell": "gru"},
        {"cell": "rnn", "tie_weights": True, "embedding_dim": 6},
        {"mogrifier_rounds": 2, "mogrifier_rank": 2, "context": "sentence"},
    ],
    ids=["gru", "rnn", "mogrifier"],
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
    monkeypatch.setattr(
        "keraslm.training.epoch.averaging_since", lambda interval, rows: 2 if interval and rows[1:] else None
    )
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
    more = {**changes, "early_stopping": None, "epochs": len(rows) + 1}
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
        quietly(config.replace(valid=None, early_stopping=1), "run")
    assert not Path("run").exists()


def test_overwriting_removes_kept_weights(config):
    quietly(config.replace(keep_weights=1, epochs=1), "run")
    assert Path("run/weights-001.safetensors").read_bytes() == Path("run/weights.safetensors").read_bytes()
    quietly(config.replace(epochs=1), "run", overwrite=True)
    assert not Path("run/weights-001.safetensors").exists()


def test_best_weights_are_those_of_the_epoch_that_validated_best(config):
    Path("strange.txt").write_text("no such words\n" * 40)  # costs more the better the training text is known
    config = config.replace(valid=("strange.txt",))
    run, _ = quietly(config.replace(epochs=3), "run")
    perplexities = [row["val_perplexity"] for row in run.epochs()]
    best = int(np.argmin(perplexities)) + 1
    assert best < 3
    first, _ = quietly(config.replace(epochs=best), "first")
    assert run.best_weights_path.read_bytes() == first.weights_path.read_bytes()
