"""The files, metrics and progress of a training run, and what it refuses."""

import errno
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keraslm.config.presets import preset
from keraslm.config.shapes import weight_shapes
from keraslm.errors import ConfigError, RunError, TextError
from keraslm.network.compile import compiled_model
from keraslm.network.model import reset_states
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights
from keraslm.training.devices import Devices
from keraslm.training.schedule import learning_rate_of
from keraslm.training.train import _describe
from tests.support.resuming import quietly, timeless

pytestmark = pytest.mark.usefixtures("own_folder")


def rows_of(run):
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def test_the_run_folder_holds_its_files_and_no_others(trained_run):
    names = {"config.json", "tokenizer.json", "weights.safetensors", "metrics.jsonl", "learning_curve.png"}
    names |= {"best.safetensors", "checkpoints"}
    assert {path.name for path in trained_run.path.iterdir()} == names
    assert (trained_run.path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    latest = trained_run.path.parent / "latest"
    assert latest.is_symlink() and latest.resolve() == trained_run.path.resolve()
    assert not latest.readlink().is_absolute()


# What a training can do without


@pytest.mark.parametrize("obstacle", ["a folder", "a file", "runs is a file", "no links"])
def test_a_training_needs_no_link_to_it(config, monkeypatch, obstacle):
    if obstacle == "runs is a file":
        Path("runs").write_text("mine")
    elif obstacle != "no links":
        Path("runs").mkdir()
        place = Path("runs/latest") if obstacle == "a file" else Path("runs/latest/mine")
        place.parent.mkdir(exist_ok=True)
        place.write_text("mine")
    else:

        def refuse(*_, **__):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "symlink_to", refuse)
    mine = {path: path.read_text() for path in Path().rglob("*") if path.is_file()}
    run, lines = quietly(config.replace(num_layers=1, epochs=1), "elsewhere")
    assert run.read_weights() and len(run.epochs()) == 1
    assert sum(line.startswith("          runs/latest does not point to this run (") for line in lines) == 1
    assert all(path.read_text() == content for path, content in mine.items())


def test_a_training_needs_no_learning_curve_and_no_tensorboard(config, monkeypatch):
    class Writer:
        def __init__(self, folder):
            raise PermissionError(13, "Permission denied")

    def fail(*_):
        raise ImportError("numpy.core.multiarray failed to import")

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr("keraslm.training.fit.learning_curve", fail)
    run, lines = quietly(config.replace(num_layers=1, epochs=2), "run", tensorboard=True)
    assert run.read_weights() and len(run.epochs()) == 2
    start = "          without"
    assert [line for line in lines if line.startswith(start)] == [
        f"{start} learning_curve.png from epoch 1 on: ImportError: numpy.core.multiarray failed to import",
        f"{start} TensorBoard events from epoch 1 on: PermissionError: [Errno 13] Permission denied",
    ]


# Rates


def test_random_letters_are_learned_as_well_as_by_guessing():
    """At rate 1 their perplexity stays far above."""
    letters = np.random.default_rng(1).choice(list("abcd"), (300, 60))
    Path("letters.txt").write_text("".join(f"{''.join(line)}\n" for line in letters))
    config = preset("tiny", train="letters.txt", tokenizer="char", num_layers=1, epochs=3)
    run, lines = quietly(config, "run")
    assert 4.2 < run.epochs()[-1]["perplexity"] < 4.4 and not any("guessing" in line for line in lines)
    run, lines = quietly(config.replace(learning_rate=3.0), "high")
    assert run.epochs()[-1]["perplexity"] > 6.0
    said = [line for line in lines if "guessing" in line]
    assert said == [
        f"          perplexity {run.epochs()[1]['perplexity']:.2f} is worse than guessing one of the 6 tokens: try a "
        "lower `learning_rate` than 3"
    ]


def test_a_run_is_opened_as_it_was_created(trained_run, config, backend):
    again = Run.open(trained_run.path)
    assert again.config == config
    assert again.tokenizer.to_json() == trained_run.tokenizer.to_json()
    assert again.epochs() == trained_run.epochs()
    header = json.loads((trained_run.path / "config.json").read_text())
    assert header["format_version"] == 2 and header["versions"]["backend"] == backend
    assert header["versions"]["keras"] == keras.__version__
    shapes = weight_shapes(config.model, again.tokenizer.vocab_size)
    weights = read_weights(again.weights_path, again.shapes())
    assert {name: value.shape for name, value in weights.items()} == shapes


def test_best_weights_are_those_of_the_epoch_with_the_best_validation(config):
    Path("strange.txt").write_text("no such words\n" * 40)  # becomes less likely as the training text is learned
    run, _ = quietly(config.replace(valid="strange.txt", max_unknown=1, keep_weights=3, num_layers=1), "run")
    best = int(np.argmin([row["val_perplexity"] for row in run.epochs()])) + 1
    assert best < 3 and run.best_weights_path.read_bytes() == run.kept_weights_path(best).read_bytes()
    assert run.weights_path.read_bytes() == run.kept_weights_path(3).read_bytes()


def test_metrics_have_one_row_per_epoch(trained_run, config, corpus):
    rows = trained_run.epochs()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["learning_rate"] for row in rows] == pytest.approx([1.0, 1.0, 0.5])
    assert rows[-1]["loss"] < rows[0]["loss"]
    for row in rows:
        assert row["tokens"] == corpus[1].predicted and row["seconds"] > 0 and row["tokens_per_second"] > 0
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"] / config.train.num_steps), rel=1e-4)
        assert row["val_perplexity"] == pytest.approx(math.exp(row["val_loss"] / config.train.num_steps), rel=1e-4)


def test_metrics_have_one_row_per_log_every_windows(trained_run, corpus):
    rows = [row for row in rows_of(trained_run) if "window" in row]
    of_an_epoch = list(range(5, len(corpus[1]) + 1, 5))
    assert len(of_an_epoch) >= 3
    assert [(row["epoch"], row["window"]) for row in rows] == [(e, w) for e in (1, 2, 3) for w in of_an_epoch]
    assert all(set(row) == {"epoch", "window", "loss", "gradient_norm", "tokens_per_second"} for row in rows)


def test_losses_equal_those_of_a_loop_of_single_steps(trained_run, config, corpus):
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


def test_progress_lines_have_the_sizes_of_the_texts(training, config, corpus):
    text = "\n".join(training[1])
    assert f"tokens    {corpus[0].vocab_size} in the vocabulary: word, trained on {config.data.train[0]}" in text
    for title, windows in (("train", corpus[1]), ("valid", corpus[2])):
        sizes = f"predict {windows.predicted} tokens; {windows.left_over} are left over"
        assert f"{len(windows)} windows of 4 x 5 {sizes}" in text
        assert any(line.startswith(title) for line in training[1])


def test_a_run_without_a_name_or_a_validation_text(trained_run, config, tmp_path):
    """The losses are the same, since validation does not change the state of training."""
    text = tmp_path / "broken.txt"
    text.write_bytes(Path(config.data.train[0]).read_bytes().replace(b"\n", b"\xff\n", 2))
    _, lines = quietly(config.replace(train=text, valid=None, errors="replace", epochs=1, num_layers=1), "broken")
    assert any(line.startswith("train") and "2 lines were not UTF-8" in line for line in lines)
    run, _ = quietly(config.replace(valid=None))
    assert run.path.parent == Path("runs") and Path("runs/latest").resolve() == (tmp_path / run.path).resolve()
    losses = [row["loss"] for row in rows_of(trained_run)]
    assert [row["loss"] for row in timeless(run)] == pytest.approx(losses, rel=1e-6)
    assert not any("val_loss" in row for row in run.epochs())


def test_a_run_is_kept_unless_overwrite_is_given(config, run_copy):
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    changed = config.replace(epochs=1, num_layers=1, valid=None, log_every=None)
    with pytest.raises(RunError, match=r"copy already holds a run\. .*`overwrite=True`"):
        quietly(changed, run_copy, resume="never")
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before
    assert len(rows_of(quietly(changed, run_copy, overwrite=True)[0])) == 1


def test_a_file_in_place_of_the_folder_is_refused(config, tmp_path):
    (tmp_path / "taken").write_text("notes")
    with pytest.raises(RunError, match="taken is a file, but a run needs a folder"):
        quietly(config, tmp_path / "taken", overwrite=True)


@pytest.mark.parametrize(("text", "message"), [("", "0 tokens"), ("a b c\n", "4 tokens are too few for one window")])
@pytest.mark.parametrize("which", ["train", "valid"])
def test_a_text_that_is_too_short_leaves_no_run(config, tmp_path, which, text, message):
    (tmp_path / "short.txt").write_text(text)
    with pytest.raises(TextError, match=rf"short\.txt: {message}"):
        quietly(config.replace(**{which: tmp_path / "short.txt"}), "first")
    assert not Path("first").exists() and not Path("runs").exists()


def test_a_missing_validation_text_leaves_no_run(config):
    with pytest.raises(ConfigError, match="there is no validation text: give `valid`"):
        quietly(config.replace(valid=None, early_stopping=1), "run")
    assert not Path("run").exists()


@pytest.mark.parametrize(("context", "resets"), [("document", False), ("sentence", True), ("paragraph", True)])
def test_the_log_describes_the_kernel_with_the_resets_of_the_training(config, monkeypatch, context, resets):
    monkeypatch.setattr("keraslm.training.train.describe_cell", lambda model, dtype, resets: f"resets {resets}")
    lines = []
    run = Run(Path("run"), config.replace(context=context), SimpleNamespace(vocab_size=9))
    _describe(run, Devices(), lines.append)
    assert f"lstm      resets {resets}" in lines
