import json
import math
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keraslm.errors import NonFiniteLossError
from keraslm.network.compile import compiled_model
from keraslm.network.model import reset_states
from keraslm.optimizers.clipped import ClippedSGD
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights
from keraslm.system.signals import StopSignals
from keraslm.text.files import TextFile
from keraslm.text.stream import Windows
from keraslm.training import callbacks
from keraslm.training.corpus import TrainingCorpus
from keraslm.training.dataset import WindowDataset
from keraslm.training.divergence import StopOnNonFiniteLoss, check_finite
from keraslm.training.progress import Throughput
from keraslm.training.train import run_callbacks, train_run


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """A training writes `runs/latest` where it stands."""
    monkeypatch.chdir(tmp_path)


def train_quietly(config, path=None, **options):
    return train_run(config, path, verbose=0, log=lambda line: None, **options)


def callbacks_of(run, windows):
    """Those of a training on `windows`, whose ids no test here looks at."""
    return run_callbacks(run, TrainingCorpus(run.tokenizer, np.zeros(1, np.int32), windows), StopSignals())


def reject_constant(name):
    raise AssertionError(f"{name} is not JSON")


class Poison(keras.callbacks.Callback):
    """Puts NaN into the last weight before a step of `fit`, counted from 0 over all its epochs."""

    def __init__(self, step):
        super().__init__()
        self.step, self.seen = step, 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.seen == self.step:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            weight = self.model.trainable_variables[-1]
            weight.assign(np.full(weight.shape, np.nan))
        self.seen += 1


def fit(model, windows, *chosen, epochs=1):
    model.fit(WindowDataset(windows), epochs=epochs, shuffle=False, verbose=0, callbacks=list(chosen))


def test_a_loss_that_is_not_finite_ends_the_training_without_weights(config):
    with pytest.raises(NonFiniteLossError, match=r"of epoch 1.*lower --learning-rate") as caught:
        train_quietly(config.replace(learning_rate=1e38, clip_norm=None, num_layers=1, valid=None), "first")
    assert caught.value.exit_code == 1
    assert not Path("first/weights.safetensors").exists()


class LearningRateFrom(keras.callbacks.Callback):
    """Sets an impossible learning rate in the second epoch, after the schedule has set a good one."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.optimizer.learning_rate.assign(3e38)


def files_of(run):
    return run.weights_path.read_bytes(), run.metrics_path.read_bytes()


def fit_until_it_diverges(config, corpus, windows, message):
    """Train one good epoch and one that diverges; the run, and its weights and metrics as the first epoch left them."""
    config = config.replace(num_layers=1, log_every=None)
    run = Run(Path("first"), config, corpus[0]).create(keras.backend.backend(), overwrite=False)
    model, kept = compiled_model(config, corpus[0].vocab_size), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(files_of(run)))
    with pytest.raises(NonFiniteLossError, match=message):
        model.fit(
            WindowDataset(windows),
            epochs=3,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks_of(run, windows), LearningRateFrom(), keep],
        )
    return run, kept


def test_divergence_leaves_the_weights_of_the_good_epoch(config, corpus):
    run, kept = fit_until_it_diverges(config, corpus, corpus[1], r"The \w+ became (inf|nan).* at window 2 of epoch 2")
    assert kept == [files_of(run)]
    assert [row["epoch"] for row in run.epochs()] == [1]


def test_divergence_in_an_epochs_last_step_leaves_good_weights_too(config, corpus):
    """The loss of a window is known before its update: one window an epoch diverges with a good loss in the logs."""
    one_window = Windows(corpus[0].encode_text(TextFile(config.data.valid[0]))[:24], 4, 5)
    steep = config.replace(clip_norm=None, average_across_batch=False)
    message = r"holds NaN or infinity \(.* after window 1 of epoch 2\. Every gradient so far had a finite"
    run, kept = fit_until_it_diverges(steep, corpus, one_window, message)
    assert kept == [files_of(run)]
    read_weights(run.weights_path, run.config.model, corpus[0].vocab_size)


# The exact step


def test_the_window_that_broke_is_named_wherever_the_look_was(config, corpus):
    windows, model = len(corpus[1]), compiled_model(config.replace(num_layers=1), corpus[0].vocab_size)
    named = r"The loss became nan at window 12 of epoch 2\. Its gradient had no finite norm"
    with pytest.raises(NonFiniteLossError, match=named):
        fit(model, corpus[1], callbacks.ResetStates(), Poison(windows + 11), StopOnNonFiniteLoss(windows, 5), epochs=9)
    assert int(model.optimizer.finite_steps) == windows + 11
    assert int(model.optimizer.iterations) == windows + 15  # looked at the fifteenth


@pytest.mark.parametrize(
    ("learning_rate", "every", "why"), [(2e37, 7, ""), (1000.0, 1000, r" \(more than 88 nats a token\)")]
)
def test_the_window_of_an_explosion_is_that_of_a_loop_which_looks_at_every_one(
    config, corpus, learning_rate, every, why
):
    """Its losses grow without a NaN: the LSTM saturates. The mean of a token outgrows 88.7 nats, the log of float32."""
    config = config.replace(learning_rate=learning_rate, num_layers=1, average_across_timesteps=True)
    looked, losses = compiled_model(config, corpus[0].vocab_size), []
    reset_states(looked)
    for inputs, targets in corpus[1]:
        looked.reset_metrics()
        losses.append(float(looked.train_on_batch([inputs, targets], targets, return_dict=True)["loss"]))
    means = np.cumsum(losses) / np.arange(1, len(losses) + 1)
    first = int(np.argmax(~(means < np.log(np.finfo(np.float32).max))))
    assert 0 < first < len(losses) - 1
    model = compiled_model(config, corpus[0].vocab_size)
    with pytest.raises(NonFiniteLossError, match=rf"became (inf|nan){why}.* at window {first + 1} of epoch 1\."):
        fit(model, corpus[1], callbacks.ResetStates(), StopOnNonFiniteLoss(len(losses), every))


def test_the_step_is_right_in_a_training_that_goes_on_in_the_middle_of_an_epoch(config, corpus):
    """A fit of its own, over the windows from the fourth on, of a model whose optimizer has done an epoch and three."""
    windows, model = len(corpus[1]), compiled_model(config.replace(num_layers=1), corpus[0].vocab_size)
    model.optimizer.iterations.assign(windows + 3)
    model.optimizer.finite_steps.assign(windows + 3)
    rest = Windows(corpus[1]._rows[:, 3 * 5 :].ravel(), 4, 5)
    assert len(rest) == windows - 3
    with pytest.raises(NonFiniteLossError, match=r"nan at window 6 of epoch 2\. Its gradient had no finite norm"):
        fit(model, rest, Poison(2), StopOnNonFiniteLoss(windows, 4))


def test_the_norm_before_the_break_is_that_of_the_gradient(config, corpus):
    """A step of stock Keras at a rate of 1 moves the weights by the gradient; its length, in float64, is the norm."""
    config = config.replace(num_layers=1, clip_norm=None, embedding_dropout=0, recurrent_dropout=0, output_dropout=0)
    stock, model = (compiled_model(config, corpus[0].vocab_size) for _ in range(2))
    stock.compile(keras.optimizers.SGD(1.0), stock.loss)
    for layer in stock._flatten_layers():
        layer.sparse_gradient = False
    before = [keras.ops.convert_to_numpy(v).astype(np.float64) for v in stock.trainable_variables]
    inputs, targets = corpus[1][0]
    stock.train_on_batch([inputs, targets], targets)
    moved = [b - keras.ops.convert_to_numpy(v) for b, v in zip(before, stock.trainable_variables, strict=True)]
    norm = math.sqrt(sum((m**2).sum() for m in moved))
    with pytest.raises(NonFiniteLossError, match=r"at window 2 of epoch 1.* --clip-norm 5 or"):
        fit(model, corpus[1], callbacks.ResetStates(), Poison(1), StopOnNonFiniteLoss(99))
    assert float(model.optimizer.gradient_norm) == pytest.approx(norm, rel=1e-4)


# What the message says


def after(*norms, clip_norm=5.0):
    """A model whose optimizer has met gradients of these norms, at a learning rate of 0.5."""
    optimizer, weight = ClippedSGD(0.5, clip_norm), keras.Variable([0.0, 0.0])
    for norm in norms:
        optimizer.apply([keras.ops.convert_to_tensor([0.6 * norm, 0.8 * norm])], [weight])
    return SimpleNamespace(optimizer=optimizer)


def stop_of(model, windows=3):
    stop = StopOnNonFiniteLoss(windows)
    stop.set_model(model)
    return stop


def message_of(call, *arguments):
    with pytest.raises(NonFiniteLossError) as caught:
        call(*arguments)
    assert caught.value.exit_code == 1
    return str(caught.value)


KEPT = "The last checkpoint and the weights of the last good epoch, if there are any, are kept."
TRY = "Try a lower --learning-rate, a lower --clip-norm or a smaller --init-scale."


def test_the_message_of_a_gradient_that_broke():
    assert message_of(
        stop_of(after(1.0, 2.0, 3.0, 812.25, math.inf, math.nan)).on_epoch_end, 1, {"loss": math.nan}
    ) == (
        "The loss became nan at window 3 of epoch 2. The gradient of window 2 of epoch 2 had no finite norm; the one "
        f"before it had 812.2 (--clip-norm is 5; the learning rate is 0.5). {KEPT} {TRY}"
    )


def test_the_message_when_the_first_gradient_breaks():
    assert message_of(stop_of(after(math.nan, 1.0)).on_epoch_end, 0, {"loss": math.inf}) == (
        "The loss became inf at window 2 of epoch 1. The very first gradient had no finite norm (--clip-norm is 5; "
        f"the learning rate is 0.5). {KEPT} Try a smaller --init-scale, and --dtype float32 where it is bfloat16."
    )


@pytest.mark.parametrize("name", ["val_loss", "perplexity", "val_perplexity"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_message_when_the_gradients_are_good(name, value):
    """The validation's loss, or e to the power of more than 88, which float32 does not hold."""
    logs = {"loss": 1.0, "val_loss": 1.0, "perplexity": 1.0, "learning_rate": 1.0}
    stop = stop_of(after(*range(1, 7), clip_norm=None))
    stop.on_epoch_end(1, logs)
    when = "after" if name.startswith("val") else "at"
    why = " (more than 88 nats a token)" if "perplexity" in name and value == math.inf else ""
    assert message_of(stop.on_epoch_end, 1, {**logs, name: value}) == (
        f"The {name} became {value}{why} {when} window 3 of epoch 2. Every gradient so far had a finite norm, the "
        f"last one 6 (--clip-norm is 0, no clipping; the learning rate is 0.5). {KEPT} "
        f"{TRY.replace('a lower --clip-norm', '--clip-norm 5')}"
    )


def test_the_advice_leaves_the_learning_rate_out_where_no_step_was_taken(config, corpus):
    model = compiled_model(config.replace(num_layers=1, init_scale=1e30), corpus[0].vocab_size)
    with pytest.raises(NonFiniteLossError, match=r"at window 1 of epoch 1\. .* kept\. Try a smaller --init-scale"):
        fit(model, corpus[1], StopOnNonFiniteLoss(99, 4))
    assert "Try a lower --learning-rate" in message_of(check_finite, {"w": np.array(np.nan)}, after(1.0).optimizer, 3)


def test_looks_are_at_every_few_windows_at_rows_and_at_an_epochs_end():
    stop, bad = StopOnNonFiniteLoss(9, every=4, log_every=3), {"loss": math.nan}
    stop.set_model(after(math.nan))
    for batch in range(12):
        if (batch + 1) in (3, 4, 6, 8, 9, 12):
            message_of(stop.on_train_batch_end, batch, bad)
        else:
            stop.on_train_batch_end(batch, bad)


def test_tensors_that_are_not_finite_are_refused_by_name():
    good = {"ids": np.arange(3), "seed": np.array([1, 2], np.uint32), "h": np.ones((2, 3), np.float32)}
    optimizer = after(7.0, math.inf).optimizer
    check_finite(good, optimizer, 3)
    bad = np.array([[1.0, math.nan], [-math.inf, 2.0]], np.float32)
    assert message_of(check_finite, {**good, "lstm_0/kernel": bad, "lstm_0/bias": bad}, optimizer, 3) == (
        "lstm_0/kernel holds NaN or infinity (2 of 4 values) after window 2 of epoch 1. Its gradient had no finite "
        f"norm; the one before it had 7 (--clip-norm is 5; the learning rate is 0.5). {KEPT} {TRY}"
    )


# What is left behind


def test_no_row_of_a_diverged_window_joins_the_metrics(config, corpus):
    """With a row every window each is looked at first, whatever `every` is."""
    windows = len(corpus[1])
    config = config.replace(num_layers=1, log_every=1)
    run = Run(Path("first"), config, corpus[0]).create(keras.backend.backend(), overwrite=False)
    model = compiled_model(config, corpus[0].vocab_size)
    with pytest.raises(NonFiniteLossError, match="window 4 of epoch 2"):
        fit(model, corpus[1], *callbacks_of(run, corpus[1]), Poison(windows + 3), epochs=2)
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert [row.get("window") for row in rows] == [*range(1, windows + 1), None, 1, 2, 3]
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_metrics_are_strict_json_whatever_the_numbers(trained_run, tmp_path):
    """Python would write NaN and Infinity, which are not JSON."""
    run = Run(tmp_path, trained_run.config, trained_run.tokenizer)
    log = callbacks.MetricsLog(run, 1, Throughput(1))
    log.on_epoch_begin(0)
    log.on_epoch_end(0, {"loss": math.nan, "perplexity": math.inf, "val_loss": -math.inf})
    row = json.loads(run.metrics_path.read_text(), parse_constant=reject_constant)
    assert [row[name] for name in ("loss", "perplexity", "val_loss")] == [None] * 3
