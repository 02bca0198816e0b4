"""Runs that start from a trained run: weights, vocabulary, perplexities before and after, what is recorded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import keraslm
from keraslm.config.transfer import TransferConfig
from keraslm.errors import Interrupted, RunError, TextError
from keraslm.runs.metrics import read_rows
from keraslm.runs.run import Run
from keraslm.training.checkpoints import SaveCheckpoints
from keraslm.training.validation import SecondValidation
from tests.reference.text import write_text
from tests.support.program import strict_json
from tests.support.resuming import assert_same, last, quietly, signal_at, timeless
from tests.support.starting import STILL, train

pytestmark = pytest.mark.usefixtures("own_folder")

# Weights


def test_a_run_starts_with_weights_tokenizer_and_settings_of_its_source(source, new_text, program):
    before = keraslm.load_run(source.path, weights="best")
    run, lines = train(init_from=f"{source.path}/", init_weights="best", run="new", **new_text, **STILL)
    own = source.config
    also = {"init_from": str(source.path), "init_weights": "best", "also_valid": own.data.valid}
    assert run.config == own.replace(**also, **new_text, **STILL)
    assert run.tokenizer.digest == source.tokenizer.digest
    for name, value in before.read_weights().items():
        np.testing.assert_allclose(run.read_weights()[name], value, rtol=0, atol=1e-25)
    epoch, path = before.trained_epoch()["epoch"], before.weights_path
    assert f"initial   weights of {path} (epoch {epoch})" in lines
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    origin = Run.open("new").origin["weights"]
    assert origin["sha256"] == digest and (origin["weights"], origin["epoch"]) == ("best.safetensors", epoch)
    shown = strict_json(program("show", "new", "--json").out)
    assert (shown["initial weights"], shown["initial weights sha256"]) == (f"{path} (epoch {epoch})", digest)


def test_epoch_0_and_each_epoch_have_the_perplexities_of_both_texts(source, new_text):
    run, lines = train(init_from=source.path, run="new", **new_text)
    zeroth, *rows = [row for row in read_rows(run.metrics_path) if "window" not in row]
    names = {"val_perplexity": new_text["valid"], "also_val_perplexity": source.config.data.valid[0]}
    for name, text in names.items():
        for trained, row in ((source, zeroth), (run, rows[-1])):
            expected = keraslm.evaluate(trained, text, tutorial=True).perplexity
            assert row[name] == pytest.approx(expected, rel=1e-6)
    assert zeroth["also_val_perplexity"] == pytest.approx(source.epochs()[-1]["val_perplexity"], rel=1e-6)
    assert [row["epoch"] for row in run.epochs()] == [1, 2] == [row["epoch"] for row in rows]
    assert zeroth["epoch"] == 0 and set(zeroth) == {"epoch", *names}
    assert f"before    {', '.join(f'{name} {zeroth[name]:.2f}' for name in names)}" in lines


def test_a_second_text_of_any_run_changes_nothing_but_the_metrics(source, tmp_path):
    """Not even one that is far longer than the texts of the training."""
    other = write_text(tmp_path / "other.txt", lines=200, seed=9)
    run, _ = quietly(source.config.replace(also_valid=other), "new")
    without = [{k: v for k, v in row.items() if k != "also_val_perplexity"} for row in timeless(run)]
    assert without == timeless(source)
    assert run.weights_path.read_bytes() == source.weights_path.read_bytes()
    expected = keraslm.evaluate(run, other, tutorial=True).perplexity
    assert run.epochs()[-1]["also_val_perplexity"] == pytest.approx(expected, rel=1e-6)


def test_the_validation_text_of_the_source_must_be_the_same(config, new_text, tmp_path):
    train_text, valid = (write_text(tmp_path / f"{seed}.txt", lines=60, seed=seed) for seed in (1, 2))
    quietly(config.replace(train=train_text, valid=valid, num_layers=1, epochs=1), "old")
    valid.write_text(valid.read_text() + "word1\n")
    run, lines = train(init_from="old", run="new", epochs=1, **new_text)
    note = "          the validation text of old is not validated too: "
    assert any(line.startswith(f"{note}{valid} is no longer the validation text of old") for line in lines)
    assert run.config.transfer.also_valid is None and "also_val_perplexity" not in run.epochs()[-1]
    valid.unlink()
    _, lines = train(init_from="old", run="more", epochs=1, **new_text)
    assert any(line.startswith(note) and "2.txt" in line and "o such file" in line for line in lines), lines
    with pytest.raises(TextError, match=r"2\.txt"):
        train(init_from="old", run="never", epochs=1, also_valid=valid, **new_text)
    assert not Path("never").exists()


def test_without_texts_those_of_the_source_are_trained(source):
    run, _ = train(init_from=source.path, run="new", epochs=1, learning_rate=0.1)
    assert run.texts == source.texts and run.config.transfer.also_valid is None


def test_a_source_without_weights_or_with_damaged_ones_leaves_no_run(source_copy, new_text):
    path = source_copy / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"weights\.safetensors: damaged"):
        train(init_from=source_copy, run="new", **new_text)
    path.unlink()
    with pytest.raises(RunError, match="no weights to start from"):
        train(init_from=source_copy, run="new", **new_text)
    assert not Path("new").exists()


# Resuming


CHANGES = {"epochs": 3, "extend_vocab": 1, "freeze": "embedding", "learning_rate": 0.5, "weight_decay": 0.01}
CHANGES |= {"nonmonotone_interval": 1, "checkpoint_windows": 4}


def test_a_run_is_resumed_bit_for_bit_without_its_source(source_copy, new_text, monkeypatch):
    monkeypatch.setattr(
        "keraslm.training.callbacks.averaging_since", lambda interval, rows: 1 if interval and rows else None
    )
    options = {**new_text, **CHANGES, "init_from": source_copy}
    complete, _ = train(run="complete", **options)
    for moment in ((0, 3, None), (0, None, 1), (1, None, None), (2, 1, None)):
        with signal_at(*moment), pytest.raises(Interrupted):
            train(run="new", **options)
        if source_copy.is_dir():
            shutil.rmtree(source_copy)
    resumed, lines = train(run="new")
    assert_same(resumed, complete)
    assert resumed.origin == complete.origin and resumed.config == complete.config
    assert not any("initial" in line or "before" in line for line in lines)
    assert {"optimizer/lstm_0_bias_average", "model/embedding/embeddings"} <= last(resumed).variables.keys()
    assert "optimizer/embedding_embeddings_average" not in last(resumed).variables


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_signal_in_the_second_validation_is_obeyed_and_it_is_repeated(source, new_text, monkeypatch, epoch):
    options = {**new_text, "init_from": source.path, "epochs": 2}
    complete, _ = train(run="complete", **options)
    validate, saved = SecondValidation.on_epoch_end, []

    def interrupted(self, now, logs=None):
        if now == epoch:
            subprocess.run(["kill", str(os.getpid())], check=True)
        validate(self, now, logs)

    save = SaveCheckpoints._save
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="in the validation of epoch"):
        patch.setattr(SecondValidation, "on_epoch_end", interrupted)
        patch.setattr(SaveCheckpoints, "_save", lambda self, *at: (saved.append(at), save(self, *at))[1])
        train(run="new", **options)
    assert saved[-1][0] == epoch and saved[-1][1] > 0
    assert_same(train(run="new")[0], complete)


def test_the_same_arguments_resume_the_stopped_run_unless_the_source_has_changed(source_copy, new_text):
    options = {**new_text, "init_from": source_copy, "epochs": 2}
    with signal_at(0, 3, None), pytest.raises(Interrupted):
        train(**options)
    (stopped,) = (path for path in Path("runs").iterdir() if not path.is_symlink())
    copied = shutil.copytree(stopped, "copied")
    run, lines = train(**options)
    assert run.path == stopped and any("was begun with the same arguments" in line for line in lines)
    assert train(**options, freeze="logits")[0].path != stopped
    shutil.rmtree(stopped)
    shutil.copytree(copied, stopped)
    quietly(Run.open(source_copy).config.replace(epochs=3), source_copy)
    again, lines = train(**options)
    assert again.path != stopped
    assert f"          not resumed: {stopped} started from earlier weights of {source_copy}" in lines


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_the_source_again(source, new_text):
    options = {**new_text, "init_from": source.path, "epochs": 1}
    complete, _ = train(run="complete", **options)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("keraslm.training.fit_model.fit_run", killed)
        train(run="new", **options)
    assert [row["epoch"] for row in read_rows(Path("new/metrics.jsonl"))] == [0]
    assert_same(train(run="new", **options)[0], complete)


def test_the_source_of_an_earlier_version_is_a_run_without_one(source_copy):
    header = json.loads((source_copy / "config.json").read_text())
    del header["transfer"]
    (source_copy / "config.json").write_text(json.dumps(header))
    run = Run.open(source_copy)
    assert run.config.transfer == TransferConfig() and run.origin == {}


@pytest.mark.parametrize("origin", [3, {"weights": "a", "new_words": [], "embeddings": 1}, {"weights": {}}])
def test_a_damaged_record_of_the_source_is_no_obstacle(source_copy, program, origin):
    header = json.loads((source_copy / "config.json").read_text())
    (source_copy / "config.json").write_text(json.dumps(header | {"origin": origin}))
    assert program("show", source_copy).code == 0
