"""Training that diverges stops before it overwrites good files, and names the window and the cause."""

import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keraslm.errors import NonFiniteLossError
from keraslm.network.compile import compiled_model
from keraslm.network.model import reset_states
from keraslm.optimizers.clipped import ClippedSGD
from keraslm.runs.create import create_run
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights
from keraslm.system.signals import StopSignals
from keraslm.text.files import TextFile
from keraslm.text.store import in_memory
from keraslm.text.stream import Windows
from keraslm.training.callbacks import MetricsLog, ResetStates
from keraslm.training.corpus import TrainingCorpus
from keraslm.training.dataset import BatchDataset
from keraslm.training.divergence import StopOnNonFiniteLoss, check_finite
from keraslm.training.fit import run_callbacks
from keraslm.training.progress import Throughput
from keraslm.training.variables import synchronise
from tests.support.words import encode_text

pytestmark = pytest.mark.usefixtures("own_folder")


def fit(model, windows, *chosen, epochs=1):
    model.fit(BatchDataset(windows), epochs=epochs, shuffle=False, verbose=0, callbacks=list(chosen))


def new_run(config, tokenizer, tmp_path):
    run = Run(tmp_path / "run", config, tokenizer)
    create_run(run, keras.backend.backend(), overwrite=False)
    return run


def callbacks_of(run, windows):
    """The callbacks of a training run; no test here reads its ids."""
    return run_callbacks(run, TrainingCorpus(run.tokenizer, in_memory("text", [[]]), windows), StopSignals())


class At(keras.callbacks.Callback):
    """Calls a function with the model before a step, counted from 0 over all epochs."""

    def __init__(self, step, act):
        super().__init__()
        self.step, self.act, self.seen = step, act, 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.seen == self.step:
            synchronise(self.model)
            self.act(self.model)
        self.seen += 1


def poison(model):
    weight = model.trainable_variables[-1]
    weight.assign(np.full(weight.shape, np.nan))


def files_of(run):
    return run.weights_path.read_bytes(), run.metrics_path.read_bytes()


class HighRate(keras.callbacks.Callback):
    """Sets an impossible learning rate in the second epoch, after the schedule has set a good one."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.optimizer.learning_rate.assign(3e38)


@pytest.mark.parametrize("one_window", [False, True])
def test_the_files_of_the_good_epoch_are_kept(config, corpus, tmp_path, one_window):
    """With one window per epoch, the loss of the diverging epoch is finite: it is computed before the update."""
    config, windows = config.replace(num_layers=1, log_every=None), corpus[1]
    message = r"The \w+ became (inf|nan).* at window 2 of epoch 2"
    if one_window:
        config = config.replace(clip_norm=None, average_across_batch=False)
        windows = Windows(encode_text(corpus[0], TextFile(config.data.valid[0]))[:24], 4, 5)
        message = r"contains NaN or infinity \(.* after window 1 of epoch 2\. The norm of every gradient was finite"
    run, kept = new_run(config, corpus[0], tmp_path), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(files_of(run)))
    with pytest.raises(NonFiniteLossError, match=message):
        fit(
            compiled_model(config, corpus[0].vocab_size),
            windows,
            *callbacks_of(run, windows),
            HighRate(),
            keep,
            epochs=3,
        )
    assert kept == [files_of(run)]
    assert [row["epoch"] for row in run.epochs()] == [1]
    read_weights(run.weights_path, run.shapes())


def test_no_row_of_a_diverged_window_is_written(config, corpus, tmp_path):
    """With one row per window, each window is checked before its row."""
    windows = len(corpus[1])
    config = config.replace(num_layers=1, log_every=1)
    run = new_run(config, corpus[0], tmp_path)
    model = compiled_model(config, corpus[0].vocab_size)
    with pytest.raises(NonFiniteLossError, match=r"loss became nan at window 4 of epoch 2\. The norm of its gradient"):
        fit(model, corpus[1], *callbacks_of(run, corpus[1]), At(windows + 3, poison), epochs=2)
    assert int(model.optimizer.finite_steps) == windows + 3
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert [row.get("window") for row in rows] == [*range(1, windows + 1), None, 1, 2, 3]
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_metrics_are_strict_json(trained_run, tmp_path):
    """Python would write NaN and Infinity, which are not JSON."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    run = Run(tmp_path, trained_run.config, trained_run.tokenizer)
    log = MetricsLog(run, 1, Throughput(1))
    log.on_epoch_begin(0)
    log.on_epoch_end(0, {"loss": math.nan, "perplexity": math.inf, "val_loss": -math.inf})
    row = json.loads(run.metrics_path.read_text(), parse_constant=refuse)
    assert [row[name] for name in ("loss", "perplexity", "val_loss")] == [None] * 3


def test_the_window_of_an_explosion_is_found_as_by_a_loop_that_reads_every_loss(config, corpus):
    """The losses grow without NaN, because the LSTM saturates, until the perplexity exceeds float32: 88.7 nats."""
    config = config.replace(learning_rate=1000.0, num_layers=1, average_across_timesteps=True)
    loop, losses = compiled_model(config, corpus[0].vocab_size), []
    reset_states(loop)
    for inputs, targets in corpus[1]:
        loop.reset_metrics()
        losses.append(float(loop.train_on_batch([inputs, targets], targets, return_dict=True)["loss"]))
    means = np.cumsum(losses) / np.arange(1, len(losses) + 1)
    first = int(np.argmax(~(means < np.log(np.finfo(np.float32).max))))
    assert 0 < first < len(losses) - 1
    model = compiled_model(config, corpus[0].vocab_size)
    message = rf"became inf \(more than 88 nats per token\) at window {first + 1} of epoch 1\."
    with pytest.raises(NonFiniteLossError, match=message):
        fit(model, corpus[1], ResetStates(), StopOnNonFiniteLoss(len(losses), 1000))


def after(*norms, clip_norm=5.0):
    """A model whose optimizer has seen gradients of these norms, at a learning rate of 0.5."""
    optimizer, weight = ClippedSGD(0.5, clip_norm), keras.Variable([0.0, 0.0])
    for norm in norms:
        optimizer.apply([keras.ops.convert_to_tensor([0.6 * norm, 0.8 * norm])], [weight])
    return SimpleNamespace(optimizer=optimizer)


def stop_of(model, windows=3, **options):
    stop = StopOnNonFiniteLoss(windows, **options)
    stop.set_model(model)
    return stop


def message_of(call, *arguments):
    with pytest.raises(NonFiniteLossError) as caught:
        call(*arguments)
    assert caught.value.exit_code == 1
    return str(caught.value)


NAN = {"loss": math.nan}
KEPT = "The last checkpoint and the weights of the last good epoch, if any, are kept."
TRY = "Try a lower `learning_rate`, a lower `clip_norm` or a smaller `init_scale`."
TRY_FIRST = 'Try a smaller `init_scale`, and `dtype="float32"` if it is bfloat16.'
SETTINGS = "(`clip_norm` is 5, the learning rate is 0.5)"


def test_the_message_about_a_gradient_that_is_not_finite():
    stop = stop_of(after(1.0, 2.0, 3.0, 812.25, math.inf, math.nan))
    assert message_of(stop.on_epoch_end, 1, NAN) == (
        "The loss became nan at window 3 of epoch 2. The norm of the gradient of window 2 of epoch 2 was not finite; "
        f"the previous one was 812.2 {SETTINGS}. {KEPT} {TRY}"
    )


def test_the_first_of_several_diverged_windows_is_named():
    """Five windows since the last check, of which three are not finite."""
    stop = stop_of(after(*[1.0] * 12, *[math.nan] * 3), windows=10, every=5)
    for logs in ({"loss": 1.0}, {"loss": 1.0}, NAN, NAN):
        stop.on_train_batch_end(0, logs)
    message = message_of(stop.on_train_batch_end, 4, NAN)
    assert message.startswith("The loss became nan at window 3 of epoch 2. The norm of its gradient was not finite")


@pytest.mark.parametrize("norms", [(math.nan, 1.0), (math.nan,)])
def test_the_message_if_the_first_gradient_is_not_finite(norms):
    place = f"window {len(norms)} of epoch 1"
    assert message_of(stop_of(after(*norms)).on_epoch_end, 0, {"loss": math.inf}) == (
        f"The loss became inf at {place}. The norm of the first gradient was not finite {SETTINGS}. {KEPT} {TRY_FIRST}"
    )


def test_the_advice_before_the_first_update():
    """The loss of the first window is that of the initial weights, whatever the learning rate is."""
    assert message_of(stop_of(after(1.0)).on_epoch_end, 0, NAN).endswith(TRY_FIRST)
    assert message_of(check_finite, {"w": np.array(np.nan)}, after(1.0).optimizer, 3).endswith(TRY)


@pytest.mark.parametrize("name", ["val_loss", "perplexity", "val_perplexity"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_message_if_all_gradients_are_finite(name, value):
    """The loss of a validation, or a perplexity beyond float32."""
    logs = {"loss": 1.0, "val_loss": 1.0, "perplexity": 1.0, "learning_rate": 1.0}
    stop = stop_of(after(*range(1, 7), clip_norm=None))
    stop.on_epoch_end(1, logs)
    when = "after" if name.startswith("val") else "at"
    size = " (more than 88 nats per token)" if "perplexity" in name and value == math.inf else ""
    assert message_of(stop.on_epoch_end, 1, {**logs, name: value}) == (
        f"The {name} became {value}{size} {when} window 3 of epoch 2. The norm of every gradient was finite, the last "
        f"one 6 (gradients are not clipped, the learning rate is 0.5). {KEPT} "
        f"{TRY.replace('a lower `clip_norm`', '`clip_norm=5`')}"
    )


def test_checks_are_every_few_windows_before_each_row_and_at_the_end_of_an_epoch():
    stop = stop_of(after(math.nan), windows=9, every=4, log_every=3)
    for batch in range(12):
        if (batch + 1) in (3, 4, 6, 8, 9, 12):
            message_of(stop.on_train_batch_end, batch, NAN)
        else:
            stop.on_train_batch_end(batch, NAN)


def test_tensors_that_are_not_finite_are_refused_by_name():
    good = {"ids": np.arange(3), "seed": np.array([1, 2], np.uint32), "h": np.ones((2, 3), np.float32)}
    optimizer = after(7.0, math.inf).optimizer
    check_finite(good, optimizer, 3)
    bad = np.array([[1.0, math.nan], [-math.inf, 2.0]], np.float32)
    assert message_of(check_finite, {**good, "lstm_0/kernel": bad, "lstm_0/bias": bad}, optimizer, 3) == (
        "lstm_0/kernel contains NaN or infinity (2 of 4 values) after window 2 of epoch 1. The norm of its gradient "
        f"was not finite; the previous one was 7 {SETTINGS}. {KEPT} {TRY}"
    )
