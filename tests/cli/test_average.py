"""`keraslm average`, and the evaluation of the mean on the backend of this process."""

from __future__ import annotations

import shutil

import pytest

import keraslm
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights
from keraslm_export.targets.onnx import model_info
from tests.support.made_run import replace_weights
from tests.support.program import assert_refused, strict_json
from tests.support.resuming import quietly


@pytest.fixture
def two(trained_run, tmp_path):
    """The trained run, and a copy whose weights are doubled."""
    other = Run.open(shutil.copytree(trained_run.path, tmp_path / "other"))
    weights = read_weights(other.weights_path, other.shapes())
    replace_weights(other, {name: 2 * value for name, value in weights.items()})
    return trained_run, other


def test_the_mean_is_evaluated_in_the_same_way_as_its_members(program, trained_run, tmp_path):
    """The mean of a run and its copy is the run."""
    copied, output = shutil.copytree(trained_run.path, tmp_path / "copy"), tmp_path / "mean"
    outcome = program("average", trained_run.path, copied, "--output", output)
    figure = trained_run.epochs()[-1]["val_perplexity"]
    first, second, mean, following = outcome.out.splitlines()
    assert first == f"member    {trained_run.path}/weights.safetensors (epoch 3): val_perplexity {figure:.2f}"
    assert second == f"member    {copied}/weights.safetensors (epoch 3): val_perplexity {figure:.2f}"
    assert mean == f"average   {output}: val_perplexity {figure:.2f}, of 2 weight files"
    assert following == f"next      keraslm export model.onnx --run {output}" and outcome.err == ""
    run = Run.open(output)
    assert run.averaged()["val_perplexity"] == pytest.approx(figure, rel=1e-5)
    assert model_info(run).valid_perplexity == run.averaged()["val_perplexity"]


def test_show_and_evaluate_read_a_mean(program, two, tmp_path, text_files):
    keraslm.average(two, tmp_path / "mean", log=lambda _: None)
    shown = strict_json(program("show", tmp_path / "mean", "--json").out)
    assert shown["average of"] == [f"{run.path}/weights.safetensors (epoch 3)" for run in two]
    assert (shown["epochs trained"], shown["perplexity"], shown["checkpoint"]) == (0, None, None)
    found = keraslm.evaluate(tmp_path / "mean", text_files[1], tutorial=True)
    assert shown["validation perplexity"] == pytest.approx(found.perplexity, rel=1e-6)
    assert found.perplexity != pytest.approx(two[0].epochs()[-1]["val_perplexity"], rel=1e-3)


def test_the_last_epochs_of_a_run(program, run_copy, tmp_path):
    run, second = Run.open(run_copy), tmp_path / "second"
    shutil.copytree(run_copy, second)
    shutil.rmtree(second / "checkpoints" / "0003-00000000")
    quietly(run.config.replace(keep_weights=2), second)
    outcome = program("average", second, "--last", "2", "--output", tmp_path / "mean")
    for line, row in zip(outcome.out.splitlines(), run.epochs()[1:], strict=False):
        name = f"{Run(second, run.config, run.tokenizer).kept_weights_path(row['epoch'])} (epoch {row['epoch']})"
        assert line == f"member    {name}: val_perplexity {row['val_perplexity']:.2f}"


def test_wrong_use_is_refused_in_one_sentence(program, two, tmp_path):
    one, other = (run.path for run in two)
    output = ("--output", tmp_path / "mean")
    assert_refused(program("average", one, *output), "An average needs two or more runs", "add --last 5")
    assert_refused(
        program("average", one, "--last", "2", *output), "has kept the weights of no epoch", "--keep-weights 2"
    )
    assert_refused(program("average", one, tmp_path / "gone", *output), "gone: no such run folder")
    assert_refused(program("average", one, other), "--output")
    assert_refused(program("average", one, other, "--output", other), "is one of the runs that are averaged")
    assert not (tmp_path / "mean").exists()
    assert program("average", one, other, *output).code == 0
    assert_refused(program("average", one, other, *output), "already holds a run. Choose a different --output")
    assert program("average", one, other, *output, "--overwrite").code == 0
    train = program("train", "--run", tmp_path / "mean", "--epochs", "9")
    assert_refused(train, "mean holds a run without a checkpoint, which cannot be resumed")
