import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from keraslm.config.shapes import weight_shapes
from keraslm.errors import RunError, TextError
from keraslm.network.compile import compiled_model
from keraslm.network.model import reset_states, stateful_layers
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights
from keraslm.training.schedule import learning_rate_of
from keraslm.training.train import train_run


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """A training writes `runs/latest` where it stands."""
    monkeypatch.chdir(tmp_path)


def rows_of(run):
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def train_quietly(config, path=None, **options):
    return train_run(config, path, verbose=0, log=lambda line: None, **options)


def states_of(model):
    return [keras.ops.convert_to_numpy(s).copy() for layer in stateful_layers(model) for s in (layer.h, layer.c)]


def assert_states(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


# What a run leaves behind


def test_run_folder_holds_its_files_and_no_others(trained_run):
    names = {"config.json", "tokenizer.json", "weights.safetensors", "metrics.jsonl", "learning_curve.png"}
    names |= {"best.safetensors", "checkpoints"}
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
        assert row["tokens"] == corpus[1].predicted and row["seconds"] > 0 and row["tokens_per_second"] > 0
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"] / config.train.num_steps), rel=1e-4)
        assert row["val_perplexity"] == pytest.approx(math.exp(row["val_loss"] / config.train.num_steps), rel=1e-4)


def test_metrics_have_a_row_each_log_every_windows(trained_run, corpus):
    rows = [row for row in rows_of(trained_run) if "window" in row]
    of_an_epoch = list(range(5, len(corpus[1]) + 1, 5))
    assert len(of_an_epoch) >= 3
    assert [(row["epoch"], row["window"]) for row in rows] == [(e, w) for e in (1, 2, 3) for w in of_an_epoch]
    assert all(set(row) == {"epoch", "window", "loss", "gradient_norm", "tokens_per_second"} for row in rows)


def test_loss_goes_down(config):
    first, *_, last = train_quietly(config.replace(epochs=8, lr_decay=1.0, log_every=None)).epochs()
    assert last["loss"] < 0.93 * first["loss"] and last["val_loss"] < 0.93 * first["val_loss"]


def test_progress_is_said_with_its_numbers(training, config, corpus):
    text = "\n".join(training[1])
    assert f"tokens    {corpus[0].vocab_size} in the vocabulary: word, trained on {config.data.train[0]}" in text
    for title, windows in (("train", corpus[1]), ("valid", corpus[2])):
        assert f"{len(windows)} windows of 4 x 5 predict {windows.predicted}, {windows.left_over} are left over" in text
        assert any(line.startswith(title) for line in training[1])


def test_without_a_name_a_validation_text_or_clean_utf8(config, tmp_path):
    text, lines = tmp_path / "broken.txt", []
    text.write_bytes(Path(config.data.train[0]).read_bytes() + b"\xff\n\xff\n")
    changes = {"train": str(text), "valid": None, "errors": "replace", "epochs": 1, "num_layers": 1, "log_every": None}
    run = train_run(config.replace(**changes), verbose=0, log=lines.append)
    assert run.path.parent == Path("runs") and Path("runs/latest").resolve() == (tmp_path / run.path).resolve()
    (row,) = rows_of(run)
    assert "val_loss" not in row and row["epoch"] == 1
    assert any(line.startswith("train") and "2 lines were not UTF-8" in line for line in lines)


def test_same_seed_gives_the_same_weights_to_the_last_bit_with_dropout_on(trained_run, config):
    """The session's run was made in this process too."""
    again = train_quietly(config, "again")
    assert again.weights_path.read_bytes() == trained_run.weights_path.read_bytes()


def test_same_seed_gives_the_same_losses_with_dropout_on_validated_or_not(trained_run, config):
    again = train_quietly(config.replace(valid=None), "again")
    losses = [row["loss"] for row in rows_of(trained_run)]
    assert [row["loss"] for row in rows_of(again)] == pytest.approx(losses, rel=1e-6)


# What is refused


def test_an_existing_run_is_kept_unless_overwriting_was_asked_for(config, run_copy):
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    changed = config.replace(epochs=1, num_layers=1, valid=None, log_every=None)
    with pytest.raises(RunError, match=r"copy already holds a run\. .*--overwrite"):
        train_quietly(changed, run_copy, resume="never")
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before
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


# The numbers in metrics.jsonl


def test_window_rows_average_what_a_loop_of_single_steps_sees(trained_run, config, corpus):
    model, seen = compiled_model(config, corpus[0].vocab_size), []
    for epoch in range(config.train.epochs):
        model.optimizer.learning_rate.assign(learning_rate_of(config.train, epoch))
        reset_states(model)
        losses = []
        for inputs, targets in corpus[1]:
            model.reset_metrics()
            losses.append(model.train_on_batch([inputs, targets], targets, return_dict=True)["loss"])
        seen += [np.mean(losses[end - 5 : end]) for end in range(5, len(losses) + 1, 5)] + [np.mean(losses)]
    assert [row["loss"] for row in rows_of(trained_run)] == pytest.approx(seen, rel=1e-4)
