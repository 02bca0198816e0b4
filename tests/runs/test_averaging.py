"""Averaged weights, compared with NumPy; their evaluation is tested in `cli/test_average.py`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil

import numpy as np
import pytest

import keraslm
from keraslm.errors import RunError, UsageError, WriteError
from keraslm.runs import averaging
from keraslm.runs.averaging import members_of
from keraslm.runs.resume import find_previous_run
from keraslm.runs.run import Run
from keraslm.runs.weights import digest_of, read_weights, write_weights
from keraslm.system.atomic import make_folder
from keraslm.text.store import fingerprint
from tests.support.made_run import make_run, random_weights
from tests.support.words import train_words

MARK = ", of a different text or windows"
FIELDS = {"units": 4, "embedding_dim": 3, "train": ("gone.txt",)}


@pytest.fixture
def runs(tmp_path):
    """Three runs of one shape, the weights of each drawn with its number as the seed."""
    made = []
    for number in range(3):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        run = make_run(folder, seed=number, **FIELDS)
        write_weights(run.weights_path, weights_of(run, number))
        run.append({"epoch": 2, "perplexity": 9.0, "val_perplexity": 10.0 + number})
        made.append(run)
    return made


@pytest.fixture
def kept(runs):
    """A run that has kept the weights of epochs 2, 3, 9 and 1000, drawn with these as seeds."""
    run = runs[0]
    for epoch in (9, 2, 1000, 3):
        write_weights(run.kept_weights_path(epoch), weights_of(run, epoch))
        run.append({"epoch": epoch, "perplexity": 9.0, "val_perplexity": 20.0 + epoch})
    return run


def weights_of(run, seed):
    return random_weights(run.config.model, run.tokenizer.vocab_size, seed)


def read(run):
    return read_weights(run.weights_path, run.shapes())


def mean_of_weights(members):
    return {name: np.mean([np.asarray(own[name], np.float64) for own in members], axis=0) for name in members[0]}


def average(runs, output, **arguments):
    lines = []
    return keraslm.average(runs, output, log=lines.append, **arguments), lines


def assert_mean(run, seeds):
    wanted = mean_of_weights([weights_of(run, seed) for seed in seeds])
    found = read(run)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, wanted[name].astype(np.float32))


def test_each_weight_is_the_mean_over_the_runs(runs, tmp_path):
    run, lines = average(runs, tmp_path / "mean")
    assert_mean(run, range(3))
    assert lines == [
        f"member    {own.path}/weights.safetensors (epoch 2): val_perplexity {10 + number}.00"
        for number, own in enumerate(runs)
    ]


def test_sums_are_float64(runs, tmp_path):
    """In float32 the small weights would be lost beside the large ones."""
    for run, value in zip(runs, (2.0**24, 1.0, -(2.0**24)), strict=True):
        write_weights(run.weights_path, {name: np.full_like(w, value) for name, w in weights_of(run, 0).items()})
    found = read(average(runs, tmp_path / "mean")[0])
    assert {float(value) for weights in found.values() for value in weights.ravel()} == {float(np.float32(1 / 3))}


def test_the_new_run_names_its_members(runs, tmp_path):
    made, _ = average([str(run.path) for run in runs[:2]], str(tmp_path / "new" / "mean"))
    run = Run.open(tmp_path / "new" / "mean")
    assert (run.config, run.tokenizer.digest) == (runs[0].config, runs[0].tokenizer.digest)
    assert run.backend == runs[0].backend and run.epochs() == []
    assert sorted(path.name for path in run.path.iterdir()) == [
        "config.json",
        "metrics.jsonl",
        "tokenizer.json",
        "weights.safetensors",
    ]
    facts = [
        {
            "run": str(own.path),
            "weights": "weights.safetensors",
            "sha256": hashlib.sha256(own.weights_path.read_bytes()).hexdigest(),
            "epoch": 2,
            "val_perplexity": 10.0 + number,
        }
        for number, own in enumerate(runs[:2])
    ]
    row = {"averaged": facts, "weights": digest_of(read(run))}
    assert made.averaged() == run.trained_epoch() == json.loads(run.metrics_path.read_text()) == row
    assert not (tmp_path / "new" / "runs").exists() and runs[0].averaged() == {}


def test_the_last_epochs_of_one_run_are_averaged(kept, tmp_path):
    assert [*kept.kept_weights()] == [2, 3, 9, 1000]
    run, lines = average(kept, tmp_path / "mean", last=3)
    assert_mean(run, (3, 9, 1000))
    assert lines[-1] == f"member    {kept.kept_weights_path(1000)} (epoch 1000): val_perplexity 1020.00"
    assert [member["epoch"] for member in run.averaged()["averaged"]] == [3, 9, 1000]
    kept.metrics_path.unlink()  # an epoch without a row
    assert average(kept, tmp_path / "again", last=2)[1][0] == f"member    {kept.kept_weights_path(9)} (epoch 9)"


def test_best_weights_are_averaged(runs, tmp_path):
    for number, run in enumerate(runs):
        write_weights(run.best_weights_path, weights_of(run, 10 + number))
    best = [keraslm.load_run(run.path, "best") for run in runs]
    assert_mean(average(best, tmp_path / "mean")[0], (10, 11, 12))


def test_an_averaged_run_can_be_averaged_again_but_not_resumed(runs, tmp_path):
    first, _ = average(runs[:2], tmp_path / "first")
    with pytest.raises(RunError, match="first holds a run without a checkpoint, which cannot be resumed"):
        find_previous_run(first.path, "auto", False, print, Run)
    second, lines = average([first, runs[2]], tmp_path / "second")
    wanted = mean_of_weights([read(first), weights_of(runs[2], 2)])
    for name, value in read(second).items():
        np.testing.assert_array_equal(value, wanted[name].astype(np.float32))
    assert lines[0] == f"member    {first.path}/weights.safetensors"


def test_perplexities_of_different_texts_or_windows_are_marked(runs, tmp_path):
    def on(run, path, tokens):
        texts = {"valid": {"tokens": tokens, "sha256": "a"}}
        return dataclasses.replace(run, config=run.config.replace(valid=(path,)), texts=texts)

    three = on(runs[0], "one.txt", 5), on(runs[1], "two.txt", 5), on(runs[2], "one.txt", 6)
    run, (_, moved, changed, _) = average(three, tmp_path / "mean")
    assert moved.endswith(": val_perplexity 11.00") and changed.endswith(f": val_perplexity 12.00{MARK}")
    assert run.texts == Run.open(run.path).texts == three[0].texts
    other = dataclasses.replace(runs[1], config=runs[1].config.replace(num_steps=7))
    assert average([runs[0], other], tmp_path / "windows")[1][1].endswith(f": val_perplexity 11.00{MARK}")


@pytest.mark.parametrize(
    ("valid", "words"),
    [
        ("gone.txt", "gone.txt: "),
        ("-", "a/run: its validation text was standard input"),
        ("changed.txt", "changed.txt is no longer the validation text of "),
    ],
)
def test_without_its_text_the_average_is_not_evaluated(tmp_path, monkeypatch, valid, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "changed.txt").write_text("the dog\n")
    runs = []
    for name in "ab":
        (tmp_path / name).mkdir()
        run = make_run(tmp_path / name, **FIELDS, valid=(valid,))
        runs.append(dataclasses.replace(run, texts={"valid": fingerprint(np.array([1, 2, 3]))}))
    run, lines = average(runs, tmp_path / "mean")
    assert lines[-1].startswith("          the average is not evaluated: ") and words in lines[-1]
    assert "val_perplexity" not in run.averaged() and read(run)


def test_a_previous_run_is_kept_unless_overwrite_is_given(runs, kept, tmp_path):
    output = shutil.copytree(kept.path, tmp_path / "mean")
    (output / "notes.txt").write_text("mine")
    (output / "checkpoints").mkdir()
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    with pytest.raises(RunError, match=r"mean already holds a run\. Choose a different `output`, or"):
        average(runs, output)
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before
    run, _ = average(runs, output, overwrite=True)
    assert_mean(run, range(3))
    files = {"config.json", "metrics.jsonl", "notes.txt", "tokenizer.json", "weights.safetensors"}
    assert {path.name for path in output.iterdir()} == files


def test_a_folder_with_other_files_is_not_the_output(runs, tmp_path):
    mine = tmp_path / "mean" / ".average" / "notes.txt"
    make_folder(mine.parent)
    mine.write_text("mine")
    with pytest.raises(WriteError, match="mean: cannot be written"):
        average(runs, tmp_path / "mean")
    (tmp_path / "mean" / "metrics.jsonl").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunError, match=r"mean holds metrics\.jsonl, but no run .* as `output`"):
            average(runs, tmp_path / "mean", overwrite=overwrite)
    assert mine.read_text() == (tmp_path / "mean" / "metrics.jsonl").read_text() == "mine"


def test_a_failed_write_leaves_the_folder_as_it_was(runs, tmp_path, monkeypatch):
    def full(path, weights):
        raise WriteError(f"{path}: cannot be written (No space left on device).")

    output = shutil.copytree(runs[0].path, tmp_path / "mean")
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    monkeypatch.setattr(averaging, "write_weights", full)
    with pytest.raises(WriteError, match="No space left"):
        average(runs, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(WriteError, match="No space left"):
        average(runs, output, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_files_of_a_killed_process_are_removed(runs, tmp_path):
    make_folder(tmp_path / "mean" / ".average")
    (tmp_path / "mean" / ".average" / "metrics.jsonl").write_text("{}\n")
    run, _ = average(runs, tmp_path / "mean")
    assert not (run.path / ".average").exists() and len(run.metrics_path.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"units": 5}, r"lstm_0/kernel is \(3, 20\), not \(3, 16\)"),
        ({"num_layers": 1}, "lstm_1/kernel is missing, not"),
        ({"num_layers": 3}, r"lstm_2/kernel is \(4, 16\), not missing"),
        ({"softmax": "sampled"}, "softmax is sampled, not full"),
        ({"input_gate": "capped"}, "input_gate is capped, not free"),
        ({"skip_connections": True}, "skip_connections is True, not False"),
    ],
)
def test_different_networks_are_refused(runs, tmp_path, fields, message):
    (tmp_path / "other").mkdir()
    other = make_run(tmp_path / "other", **(FIELDS | fields))
    with pytest.raises(RunError, match=message) as caught:
        average([runs[0], other], tmp_path / "mean")
    assert str(caught.value).startswith(f"{other.path} cannot be averaged with {runs[0].path}: ")
    assert not (tmp_path / "mean").exists()


def test_a_different_tokenizer_is_refused(runs, tmp_path):
    other = Run(runs[1].path, runs[1].config, train_words(["quite other words"]))
    with pytest.raises(RunError, match=r"their tokenizers differ \(\d+ and \d+ tokens\)\. Train both with the same"):
        average([runs[0], other], tmp_path / "mean")


def test_damaged_weights_are_named(runs, tmp_path):
    weights = weights_of(runs[1], 1)
    weights["logits/bias"][0] = math.nan
    write_weights(runs[1].weights_path, weights)
    with pytest.raises(RunError, match=f"{runs[1].weights_path}: tensor logits/bias contains NaN or infinity .1 of"):
        average(runs, tmp_path / "mean")
    runs[1].weights_path.unlink()
    with pytest.raises(RunError, match=f"{runs[1].weights_path}: no weights"):
        average(runs, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_wrong_arguments_are_refused(runs, kept, tmp_path):
    for few in ([], runs[:1]):
        with pytest.raises(UsageError, match=r"An average needs two or more runs\. .*add `last=5`"):
            members_of(few)
    with pytest.raises(UsageError, match="was given more than once"):
        members_of([runs[0], runs[1], Run.open(tmp_path / "0" / ".." / "0" / "run")])
    with pytest.raises(UsageError, match="`last` averages the last epochs of one run"):
        members_of(runs, 2)
    write_weights(kept.best_weights_path, weights_of(kept, 0))
    with pytest.raises(UsageError, match=r"leave `weights=.best.` out"):
        members_of([Run.open(kept.path, "best")], 2)
    for last in (1, -1):
        with pytest.raises(UsageError, match=f"`last` is {last}, but an average needs at least 2"):
            members_of([kept], last)
    with pytest.raises(RunError, match=r"only of epochs 2, 3, 9, 1000, but `last` is 5\. Train with `keep_weights=5`"):
        members_of([kept], 5)
    with pytest.raises(RunError, match="has kept the weights of no epoch"):
        members_of([runs[1]], 2)
    with pytest.raises(UsageError, match=r"is one of the runs that are averaged\. Choose a different `output`"):
        average(runs, runs[1].path, overwrite=True)
