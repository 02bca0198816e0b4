import contextlib
import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from keraslm import callbacks
from keraslm.checkpoint import read_weights, weight_shapes
from keraslm.dataset import WindowDataset
from keraslm.errors import NonFiniteLossError, RunError, TextError
from keraslm.losses import SequenceLoss
from keraslm.model import build_model, reset_states, stateful_layers
from keraslm.run import Run
from keraslm.text.corpus import TextFile
from keraslm.text.stream import Windows
from keraslm.text.tokenizer import WordTokenizer
from keraslm.training import compiled_model, run_callbacks, train_run
from tests.reference.language_model import language_model, token_nats


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """A training writes `runs/latest` where it stands."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def corpus(config):
    """Tokenizer, training windows and validation windows of the tiny configuration."""
    train, valid = TextFile(config.data.train), TextFile(config.data.valid)
    tokenizer = WordTokenizer.train(train)
    sizes = config.train.batch_size, config.train.num_steps
    return (tokenizer, *(Windows(tokenizer.encode_text(text), *sizes) for text in (train, valid)))


def rows_of(run):
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def train_quietly(config, path=None, **options):
    return train_run(config, path, verbose=0, say=lambda line: None, **options)


def states_of(model):
    return [keras.ops.convert_to_numpy(s).copy() for layer in stateful_layers(model) for s in (layer.h, layer.c)]


def assert_states(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


# What a run leaves behind


def test_run_folder_holds_its_files_and_no_others(trained_run):
    names = {"config.json", "tokenizer.json", "weights.safetensors", "metrics.jsonl", "learning_curve.png"}
    assert {path.name for path in trained_run.path.iterdir()} == names
    assert (trained_run.path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_latest_points_at_the_run(trained_run):
    latest = trained_run.path.parent / "latest"
    assert latest.is_symlink() and latest.resolve() == trained_run.path.resolve()
    assert not latest.readlink().is_absolute()


def test_run_is_opened_as_it_was_made(trained_run, config, backend):
    again = Run.open(trained_run.path)
    assert again.config == config
    assert again.tokenizer.to_json() == trained_run.tokenizer.to_json()
    assert again.epochs() == trained_run.epochs()
    header = json.loads((trained_run.path / "config.json").read_text())
    assert header["versions"]["backend"] == backend and header["versions"]["keras"] == keras.__version__


def test_weights_are_those_of_the_configuration(trained_run, config):
    vocab_size = trained_run.tokenizer.vocab_size
    weights = read_weights(trained_run.weights_path, config.model, vocab_size)
    assert {name: value.shape for name, value in weights.items()} == weight_shapes(config.model, vocab_size)


def test_metrics_have_a_row_an_epoch(trained_run, config, corpus):
    rows = trained_run.epochs()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["learning_rate"] for row in rows] == pytest.approx([1.0, 1.0, 0.5])
    for row in rows:
        assert row["tokens"] == corpus[1].predicted and row["seconds"] > 0
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"] / config.train.num_steps), rel=1e-4)
        assert row["val_perplexity"] == pytest.approx(math.exp(row["val_loss"] / config.train.num_steps), rel=1e-4)


def test_metrics_have_a_row_each_log_every_windows(trained_run, corpus):
    rows = [row for row in rows_of(trained_run) if "window" in row]
    of_an_epoch = list(range(5, len(corpus[1]) + 1, 5))
    assert len(of_an_epoch) >= 3
    assert [(row["epoch"], row["window"]) for row in rows] == [(e, w) for e in (1, 2, 3) for w in of_an_epoch]
    assert all(set(row) == {"epoch", "window", "loss"} for row in rows)


def test_loss_goes_down(trained_run):
    first, *_, last = trained_run.epochs()
    assert last["loss"] < 0.97 * first["loss"] and last["val_loss"] < first["val_loss"]


def test_progress_is_said_with_its_numbers(training, config, corpus):
    text = "\n".join(training[1])
    assert f"words     {corpus[0].vocab_size} in the vocabulary of {config.data.train}" in text
    for title, windows in (("train", corpus[1]), ("valid", corpus[2])):
        assert f"{len(windows)} windows of 4 x 5 predict {windows.predicted}, {windows.left_over} are left over" in text
        assert any(line.startswith(title) for line in training[1])


def test_without_a_name_a_validation_text_or_clean_utf8(config, tmp_path):
    text, lines = tmp_path / "broken.txt", []
    text.write_bytes(Path(config.data.train).read_bytes() + b"\xff\n\xff\n")
    changes = {"train": str(text), "valid": "", "errors": "replace", "epochs": 1, "num_layers": 1, "log_every": 0}
    run = train_run(config.replace(**changes), verbose=0, say=lines.append)
    assert run.path.parent == Path("runs") and Path("runs/latest").resolve() == (tmp_path / run.path).resolve()
    (row,) = rows_of(run)
    assert "val_loss" not in row and row["epoch"] == 1
    assert any(line.startswith("train") and "2 lines were not UTF-8" in line for line in lines)


def test_same_seed_gives_the_same_losses_with_dropout_on_validated_or_not(trained_run, config):
    """The session's run was made in this process too."""
    again = train_quietly(config.replace(valid=""), "again")
    losses = [row["loss"] for row in rows_of(trained_run)]
    assert [row["loss"] for row in rows_of(again)] == pytest.approx(losses, rel=1e-6)


# What is refused


def test_an_existing_run_is_kept_unless_overwriting_was_asked_for(config, run_copy):
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}
    changed = config.replace(epochs=1, num_layers=1, valid="", log_every=0)
    with pytest.raises(RunError, match=r"copy already holds a run\. .*--overwrite"):
        train_quietly(changed, run_copy)
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before
    assert len(rows_of(train_quietly(changed, run_copy, overwrite=True))) == 1


def test_a_file_in_the_way_is_refused(config, tmp_path):
    (tmp_path / "taken").write_text("notes")
    with pytest.raises(RunError, match="taken is a file; a run needs a folder"):
        train_quietly(config, tmp_path / "taken", overwrite=True)


@pytest.mark.parametrize(("text", "message"), [("", "0 tokens"), ("a b c\n", "4 tokens are too few for one window")])
@pytest.mark.parametrize("which", ["train", "valid"])
def test_a_text_that_is_too_short_leaves_no_run(config, tmp_path, which, text, message):
    (tmp_path / "short.txt").write_text(text)
    with pytest.raises(TextError, match=rf"short\.txt: {message}"):
        train_quietly(config.replace(**{which: str(tmp_path / "short.txt")}), "first")
    assert not Path("first").exists() and not Path("runs").exists()


# The state during fit


@pytest.fixture
def standing_model(config, corpus):
    """A model without dropout whose weights `fit` leaves alone, so that NumPy can tell its states and losses."""
    changed = config.replace(embedding_dropout=0, recurrent_dropout=0, output_dropout=0, init_scale=1.5)
    model = build_model(changed.model, corpus[0].vocab_size, 4)
    model.compile(keras.optimizers.SGD(0.0), SequenceLoss())
    return model


def pass_over(model, windows):
    """Mean loss of the windows and the states after them, from zero states, by NumPy."""
    weights = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    inputs, targets = (np.concatenate(part, axis=1) for part in zip(*windows, strict=True))
    logits, states = language_model(weights, inputs)
    loss = token_nats(targets, logits).sum() / len(targets) / len(windows)
    return loss, [value for state in states for value in state]


def test_each_epoch_starts_from_a_zero_state(standing_model, corpus):
    loss, states = pass_over(standing_model, corpus[1])
    history = standing_model.fit(
        WindowDataset(corpus[1]), epochs=2, shuffle=False, verbose=0, callbacks=[callbacks.ResetStates()]
    )
    assert history.history["loss"] == pytest.approx([loss, loss], rel=1e-5)
    assert_states(states_of(standing_model), states)


def test_without_the_callback_state_runs_on_into_the_next_epoch(standing_model, corpus):
    """What the callback is for; should Keras begin to reset, the test above would prove nothing."""
    losses = standing_model.fit(WindowDataset(corpus[1]), epochs=2, shuffle=False, verbose=0).history["loss"]
    assert abs(losses[0] - losses[1]) > 1e-4 * losses[0]


def test_validation_starts_from_zero_and_gives_training_its_state_back(standing_model, corpus):
    (loss, states), (val_loss, val_states) = (pass_over(standing_model, windows) for windows in corpus[1:])
    during, after = [], []
    spies = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: after.append(states_of(standing_model))),
        TestEndSpy(during),
    ]
    history = standing_model.fit(
        WindowDataset(corpus[1]),
        validation_data=WindowDataset(corpus[2]),
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[spies[1], callbacks.ResetStates(), spies[0]],
    ).history
    assert history["val_loss"] == pytest.approx([val_loss] * 2, rel=1e-5)
    assert history["loss"] == pytest.approx([loss] * 2, rel=1e-5)
    assert len(during) == len(after) == 2
    for number in range(2):
        assert_states(during[number], val_states)
        assert_states(after[number], states)


class TestEndSpy(keras.callbacks.Callback):
    """Keeps the states at the end of each evaluation."""

    __test__ = False

    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def on_test_end(self, logs=None):
        self.kept.append(states_of(self.model))


def test_evaluate_alone_starts_from_zero_and_leaves_the_state_as_it_was(standing_model, corpus):
    loss, _ = pass_over(standing_model, corpus[2])
    standing_model.predict_on_batch(corpus[1][0][0])
    before = states_of(standing_model)
    assert max(np.abs(state).max() for state in before) > 1e-3
    for _ in range(2):
        found = standing_model.evaluate(WindowDataset(corpus[2]), verbose=0, callbacks=[callbacks.ResetStates()])
        assert found == pytest.approx(loss, rel=1e-5)
        assert_states(states_of(standing_model), before)


# The numbers in metrics.jsonl


def test_window_rows_average_what_a_loop_of_single_steps_sees(trained_run, config, corpus):
    model, seen = compiled_model(config, corpus[0].vocab_size), []
    for epoch in range(config.train.epochs):
        model.optimizer.learning_rate.assign(config.train.learning_rate_of(epoch))
        reset_states(model)
        losses = []
        for inputs, targets in corpus[1]:
            model.reset_metrics()
            losses.append(model.train_on_batch(inputs, targets, return_dict=True)["loss"])
        seen += [np.mean(losses[end - 5 : end]) for end in range(5, len(losses) + 1, 5)] + [np.mean(losses)]
    assert [row["loss"] for row in rows_of(trained_run)] == pytest.approx(seen, rel=1e-4)


# Divergence


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
            callbacks=[*run_callbacks(run, windows.predicted), LearningRateFrom(), keep],
        )
    return run, kept


def test_divergence_leaves_the_weights_of_the_good_epoch(config, corpus):
    run, kept = fit_until_it_diverges(config, corpus, corpus[1])
    assert len(kept) == 1 and run.weights_path.read_bytes() == kept[0]
    assert [row["epoch"] for row in run.epochs()] == [1]


def test_divergence_in_an_epochs_last_step_leaves_good_weights_too(config, corpus):
    """The loss of a window is known before its update: one window an epoch diverges with a good loss in the logs."""
    one_window = Windows(corpus[0].encode_text(TextFile(config.data.valid))[:24], 4, 5)
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
