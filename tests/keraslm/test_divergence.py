import contextlib
import json
import math
from pathlib import Path

import keras
import pytest

from keraslm import callbacks
from keraslm.dataset import WindowDataset
from keraslm.errors import NonFiniteLossError
from keraslm.run import Run
from keraslm.text.files import TextFile
from keraslm.text.stream import Windows
from keraslm.training import compiled_model, run_callbacks, train_run
from keraslm.weights import read_weights


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """A training writes `runs/latest` where it stands."""
    monkeypatch.chdir(tmp_path)


def train_quietly(config, path=None, **options):
    return train_run(config, path, verbose=0, say=lambda line: None, **options)


def reject_constant(name):
    raise AssertionError(f"{name} is not JSON")


def test_a_loss_that_is_not_finite_ends_the_training_without_weights(config):
    with pytest.raises(NonFiniteLossError, match=r"at the end of epoch 1\. .*lower --learning-rate") as caught:
        train_quietly(config.replace(learning_rate=1e38, clip_norm=0, num_layers=1, valid=""), "first")
    assert caught.value.exit_code == 1
    assert not Path("first/weights.safetensors").exists()


class LearningRateFrom(keras.callbacks.Callback):
    """Sets an impossible learning rate in the second epoch, after the schedule has set a good one."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.optimizer.learning_rate.assign(3e38)


def fit_until_it_diverges(config, corpus, windows):
    """Train one good epoch and one that diverges; the run and the weights as the first epoch left them."""
    config = config.replace(num_layers=1)
    run = Run.create(Path("first"), config, corpus[0], keras.backend.backend(), overwrite=False)
    model, kept = compiled_model(config, corpus[0].vocab_size), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(run.weights_path.read_bytes()))
    with pytest.raises(NonFiniteLossError):
        model.fit(
            WindowDataset(windows),
            epochs=3,
            shuffle=False,
            verbose=0,
            callbacks=[*run_callbacks(run, windows), LearningRateFrom(), keep],
        )
    return run, kept


def test_divergence_leaves_the_weights_of_the_good_epoch(config, corpus):
    run, kept = fit_until_it_diverges(config, corpus, corpus[1])
    assert len(kept) == 1 and run.weights_path.read_bytes() == kept[0]
    assert [row["epoch"] for row in run.epochs()] == [1]


def test_divergence_in_an_epochs_last_step_leaves_good_weights_too(config, corpus):
    """The loss of a window is known before its update: one window an epoch diverges with a good loss in the logs."""
    one_window = Windows(corpus[0].encode_text(TextFile(config.data.valid[0]))[:24], 4, 5)
    steep = config.replace(clip_norm=0, average_across_batch=False)
    run, kept = fit_until_it_diverges(steep, corpus, one_window)
    assert run.weights_path.read_bytes() == kept[0]
    read_weights(run.weights_path, run.config.model, corpus[0].vocab_size)


def test_divergence_is_seen_within_the_epoch(standing_model, corpus):
    standing_model.optimizer.learning_rate.assign(1e38)
    stop = callbacks.StopOnNonFiniteLoss(every=4)
    with pytest.raises(NonFiniteLossError, match=r"up to window (4|8) of epoch 1"):
        standing_model.fit(WindowDataset(corpus[1]), shuffle=False, verbose=0, callbacks=[stop])


@pytest.mark.parametrize("name", ["loss", "val_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_either_loss_stops_the_training(name, value):
    stop = callbacks.StopOnNonFiniteLoss()
    stop.on_epoch_begin(4)
    stop.on_epoch_end(4, {"loss": 1.0, "val_loss": 1.0})
    with pytest.raises(NonFiniteLossError, match=f"The {name} became {value} at the end of epoch 5"):
        stop.on_epoch_end(4, {"loss": 1.0, "val_loss": 1.0, name: value})


def test_metrics_are_strict_json_even_when_training_diverges(config):
    """Python would write NaN and Infinity, which are not JSON; an infinite perplexity needs no infinite loss."""
    changes = {"learning_rate": 1e4, "clip_norm": 0, "average_across_batch": False, "valid": "", "log_every": 1}
    with contextlib.suppress(NonFiniteLossError):
        train_quietly(config.replace(num_layers=1, epochs=1, **changes), "first")
    lines = Path("first/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=reject_constant) for line in lines]
    assert max(row["loss"] or math.inf for row in rows) > 100 * config.train.num_steps  # beyond float32's exp
