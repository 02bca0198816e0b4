"""Weights and metrics of a run agree, or the files say that they do not."""

from __future__ import annotations

import json

import numpy as np
import pytest

import keraslm
from keraslm.errors import RunError
from keraslm.runs.checkpoint import Checkpoint
from keraslm.runs.resume import PreviousRun
from keraslm.runs.run import Run
from keraslm.runs.saving import save_weights
from keraslm.runs.weights import digest_of, read_note, write_weights
from tests.support.made_run import make_run, random_weights
from tests.support.program import strict_json

VALID = (30.0, 27.17, 25.1)  # validation perplexity of epochs 1, 2 and 3
SIZES = {"units": 4, "embedding_dim": 3, "num_layers": 1}


def weights_of(run: Run, seed: int):
    return random_weights(run.config.model, run.tokenizer.vocab_size, seed)


def finish_epoch(run: Run, epoch: int, valid: float, seed: int | None = None) -> None:
    """What a training does at the end of an epoch, with random weights."""
    weights = weights_of(run, epoch if seed is None else seed)
    run.append({"epoch": epoch, "perplexity": 9.0, "val_perplexity": valid, "weights": digest_of(weights)})
    save_weights(run, epoch, weights)


@pytest.fixture
def trained(tmp_path):
    """Make a run of three epochs, with weights drawn with the epoch as the seed."""

    def make(**fields) -> Run:
        run = make_run(tmp_path, **SIZES, **fields)
        for epoch, valid in enumerate(VALID, 1):
            finish_epoch(run, epoch, valid)
        return run

    return make


def resumed(run: Run, epoch: int, window: int, averages: bool = False) -> list[str]:
    """Resume a run from a checkpoint; returns the lines in the log."""
    variables = {f"model/{name}": value for name, value in weights_of(run, epoch).items()}
    if averages:
        variables = {name: value + 1 for name, value in variables.items()}
        variables |= {f"optimizer/{n.replace('/', '_')}_average": v for n, v in weights_of(run, epoch).items()}
        variables |= {"optimizer/averages_from": np.array(5), "optimizer/iteration": np.array(6)}
    metrics = "".join(f"{json.dumps(row)}\n" for row in run.epochs()[:epoch])
    lines: list[str] = []
    run.checkpoints_path.mkdir(exist_ok=True)
    PreviousRun(run, Checkpoint(epoch, window, variables, {}, metrics)).restore_files(run, lines.append)
    return lines


def epoch_of(run: Run, weights: str) -> int:
    """The epoch of the weights in a file, which must be the one that its metrics name."""
    opened = keraslm.load_run(run.path, weights)
    found = opened.read_weights()
    row = opened.trained_epoch()
    assert row["weights"] == digest_of(found) and read_note(opened.weights_path)["epoch"] == str(row["epoch"])
    return row["epoch"]


def test_each_file_names_its_epoch_and_belongs_to_one_row(trained):
    run = trained(keep_weights=2)
    finish_epoch(run, 4, 26.0)
    assert (epoch_of(run, "last"), epoch_of(run, "best")) == (4, 3)
    assert {number: run.row_of(path)["epoch"] for number, path in run.kept_weights().items()} == {3: 3, 4: 4}


@pytest.mark.parametrize("averages", [False, True])
def test_weights_of_a_later_epoch_are_replaced_by_those_of_the_checkpoint(trained, averages):
    run = trained(keep_weights=3)
    lines = resumed(run, 2, 0, averages)
    assert (epoch_of(run, "last"), epoch_of(run, "best"), [*run.kept_weights()]) == (2, 2, [1, 2])
    np.testing.assert_array_equal(run.read_weights()["logits/bias"], weights_of(run, 2)["logits/bias"])
    assert lines == [
        "weights   weights.safetensors was of an epoch after the checkpoint: now of epoch 2",
        "weights   best.safetensors was of an epoch after the checkpoint: now of epoch 2",
        "weights   weights-003.safetensors was of an epoch after the checkpoint: removed",
    ]
    assert resumed(run, 2, 0, averages) == []


def test_within_an_epoch_they_come_from_kept_weights_or_are_removed(trained):
    run = trained(keep_weights=3)
    resumed(run, 2, 450)
    assert (epoch_of(run, "last"), epoch_of(run, "best"), [*run.kept_weights()]) == (2, 2, [1, 2])


def test_weights_that_are_lost_are_removed_and_the_best_of_the_others_is_the_best(trained):
    """Otherwise the best validation would be that of epoch 2, 27.17, and its file would hold epoch 3 of before."""
    run = trained()
    lines = resumed(run, 2, 450)
    assert [line.partition(": ")[2] for line in lines] == ["removed", "removed"]
    with pytest.raises(RunError, match=r"weights\.safetensors: no weights\. No epoch was finished since"):
        run.read_weights()
    with pytest.raises(RunError, match="no best weights"):
        keraslm.load_run(run.path, "best")
    finish_epoch(run, 3, 28.0, seed=33)  # on another backend
    assert (epoch_of(run, "last"), epoch_of(run, "best")) == (3, 3)
    assert keraslm.load_run(run.path, "best").trained_epoch()["val_perplexity"] == 28.0


def test_a_run_that_was_killed_before_its_weights_were_saved_has_the_metrics_of_its_weights(trained):
    run = trained()
    run.append({"epoch": 4, "perplexity": 8.0, "val_perplexity": 24.0, "weights": digest_of(weights_of(run, 4))})
    assert (epoch_of(run, "last"), epoch_of(run, "best")) == (3, 3)
    assert resumed(run, 4, 0) == []
    assert (epoch_of(run, "last"), epoch_of(run, "best")) == (4, 4)


def test_weights_of_other_metrics_are_refused_everywhere(trained, program, tmp_path, text):
    run = trained(keep_weights=2)
    *rows, _ = run.metrics_path.read_text().splitlines(keepends=True)
    run.metrics_path.write_text("".join(rows))
    message = "weights.safetensors holds the weights of epoch 3 that belong to no row of metrics.jsonl"
    one, other = str(run.path), str(tmp_path / "mean")
    for command in (
        ("evaluate", one, text("the cat\n")),
        ("export", tmp_path / "model.onnx", "--run", one),
        ("average", one, "--last", "2", "--output", other),
    ):
        outcome = program(*command)
        assert outcome.code == 2 and message.replace("weights.s", "").split(" ", 1)[1] in outcome.err, outcome
    with pytest.raises(RunError, match="belong to no row"):
        keraslm.load_model(run)
    shown = strict_json(program("show", one, "--json").out)
    assert (shown["weights of epoch"], shown["perplexity"], shown["validation perplexity"]) == (3, None, None)
    assert shown["metrics"] == "of other weights than weights.safetensors"
    run.metrics_path.unlink()  # without metrics, there is nothing to disagree with
    assert run.trained_epoch() == {} and run.read_weights()


def test_runs_of_earlier_versions_are_read_and_repaired(tmp_path):
    """Their files and rows do not name each other."""
    run = make_run(tmp_path, **SIZES)
    for epoch, valid in enumerate(VALID, 1):
        run.append({"epoch": epoch, "perplexity": 9.0, "val_perplexity": valid})
    for path in (run.weights_path, run.best_weights_path, run.kept_weights_path(2)):
        write_weights(path, weights_of(run, 3))
    assert run.trained_epoch()["epoch"] == 3 and run.read_weights()
    assert keraslm.load_run(run.path, "best").trained_epoch()["val_perplexity"] == 25.1
    assert run.row_of(run.kept_weights_path(2))["epoch"] == 2
    resumed(run, 2, 0)
    np.testing.assert_array_equal(run.read_weights()["logits/bias"], weights_of(run, 2)["logits/bias"])
    assert run.trained_epoch()["epoch"] == 2
    best = keraslm.load_run(run.path, "best").read_weights()
    np.testing.assert_array_equal(best["logits/bias"], weights_of(run, 2)["logits/bias"])
    finish_epoch(run, 3, 26.0)
    assert (epoch_of(run, "last"), epoch_of(run, "best")) == (3, 3)


def test_weights_of_another_program_are_read_but_have_no_metrics(trained):
    from safetensors.numpy import save_file

    run = trained()
    save_file(weights_of(run, 7), run.weights_path)
    assert run.read_weights() and run.trained_epoch() == {}


def test_weights_of_a_mean_belong_to_its_row(trained, tmp_path):
    run = trained(keep_weights=2, train=("gone.txt",))
    mean = keraslm.average(run, tmp_path / "mean", last=2, log=lambda _: None)
    assert mean.read_weights() and mean.trained_epoch()["averaged"][0]["epoch"] == 2
    write_weights(mean.weights_path, weights_of(run, 9))
    with pytest.raises(RunError, match="holds weights that belong to no row"):
        mean.read_weights()
