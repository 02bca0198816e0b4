"""Runs with averaged weights, varying windows and schedules."""

import keras
import numpy as np
import pytest

from keraslm.evaluation.evaluate import evaluate_run
from keraslm.network.compile import compiled_model
from keraslm.network.losses import SequenceLoss
from keraslm.network.model import reset_states
from keraslm.optimizers.clipped import NEVER
from keraslm.runs.weights import read_weights
from keraslm.text import window_lengths
from keraslm.text.files import TextFile, TextFiles
from keraslm.text.stream import Windows
from keraslm.training.callbacks import ResetStates
from keraslm.training.dataset import BatchDataset
from keraslm.training.schedule import averaging_since, window_factors
from tests.support.resuming import last, quietly
from tests.support.words import encode_text

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.parametrize("start", [{"nonmonotone_interval": 1}, {"average_from": 2}], ids=["triggered", "given"])
def test_averages_are_validated_and_saved_and_do_not_change_the_training(config, monkeypatch, start):
    config = config.replace(num_layers=1, epochs=2)
    monkeypatch.setattr(
        "keraslm.training.callbacks.averaging_since", lambda interval, rows: 1 if interval and rows else None
    )
    run, lines = quietly(config.replace(**start), "run")
    assert lines[-1] == "average   from epoch 2 on, averaged weights are validated and saved"
    variables = last(run).variables
    weights = read_weights(run.weights_path, run.shapes())
    for name, value in weights.items():
        np.testing.assert_array_equal(value, variables[f"optimizer/{name.replace('/', '_')}_average"])
        assert np.abs(value - variables[f"model/{name}"]).max() > 1e-4
    found = evaluate_run(run, TextFiles(config.data.valid), tutorial=True)
    assert run.epochs()[-1]["val_perplexity"] == pytest.approx(found.perplexity, rel=1e-5)
    plain, _ = quietly(config, "plain")
    for name in weights:
        np.testing.assert_allclose(variables[f"model/{name}"], last(plain).variables[f"model/{name}"], atol=1e-6)
    assert plain.epochs()[-1]["loss"] == pytest.approx(run.epochs()[-1]["loss"], rel=1e-6)


def test_averaging_starts_after_a_worse_validation(config):
    """The learning rate is high enough to undo the progress of the first epochs."""
    config = config.replace(num_layers=1, nonmonotone_interval=1, learning_rate=5.0, lr_decay=1.0, epochs=6)
    run, lines = quietly(config, "run")
    since, variables = averaging_since(1, run.epochs()), last(run).variables
    assert since is not None and since < 6
    assert int(variables["optimizer/averages_from"]) == since * int(variables["optimizer/iteration"]) // 6
    assert f"average   from epoch {since + 1} on" in lines[-1]


def test_an_evaluation_of_averages_restores_the_weights(config, corpus):
    model = compiled_model(config.replace(num_layers=1, nonmonotone_interval=1), corpus[0].vocab_size)
    model.optimizer.averages_from.assign(0)
    data, losses = BatchDataset(corpus[2]), []
    model.fit(BatchDataset(corpus[1]), shuffle=False, verbose=0, callbacks=[ResetStates()])
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    losses.append(model.evaluate(data, verbose=0, callbacks=[ResetStates()])[0])
    for value, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
    model.optimizer.averages_from.assign(NEVER)
    losses.append(model.evaluate(data, verbose=0, callbacks=[ResetStates()])[0])
    assert abs(losses[0] - losses[1]) > 1e-4


def test_rates_and_windows_equal_those_of_a_loop_of_single_steps(config, corpus, monkeypatch):
    monkeypatch.setattr(window_lengths, "DEVIATION", 0.5)  # JAX compiles once per length
    config = config.replace(num_layers=1, epochs=2, variable_windows=True, optimizer="adamw", learning_rate=0.01)
    config = config.replace(lr_schedule="cosine", warmup_epochs=0.5, valid=None)
    run, _ = quietly(config, "run")
    ids = encode_text(corpus[0], TextFile(config.data.train[0]))
    windows, model = Windows(ids, 4, 5, length_seed=config.train.seed), compiled_model(config, corpus[0].vocab_size, 1)
    for epoch, row in enumerate(run.epochs()):
        windows.set_epoch(epoch)
        reset_states(model)
        rates = 0.01 * window_factors(config.train, epoch, windows.lengths)
        losses, norms = [], []
        for rate, (inputs, targets) in zip(rates, windows, strict=True):
            model.optimizer.learning_rate.assign(rate)
            model.reset_metrics()
            losses.append(model.train_on_batch([inputs, targets], targets, return_dict=True)["loss"])
            norms.append(float(model.optimizer.gradient_norm))
        assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
        assert row["learning_rate"] == pytest.approx(np.mean(rates), rel=1e-6)
        assert row["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-4)
        assert row["tokens"] == windows.predicted


def test_tensorflow_traces_a_step_once_for_all_lengths(config, corpus, backend, monkeypatch):
    """Even if the first two windows have the same length, from which Keras would infer a fixed shape."""
    if backend != "tensorflow":
        pytest.skip("JAX compiles once per length, torch not at all")
    monkeypatch.setattr(window_lengths, "DEVIATION", 5.0)
    windows = Windows(np.arange(2000) % 9, 4, 5, length_seed=3)
    first = next(n for n, (a, b) in enumerate(zip(windows.lengths, windows.lengths[1:], strict=False)) if a == b)
    assert len(set(windows.lengths[first:])) > 5
    model, traced, call = compiled_model(config, corpus[0].vocab_size), [], SequenceLoss.__call__
    monkeypatch.setattr(SequenceLoss, "__call__", lambda *given: traced.append(1) or call(*given))
    model.fit(BatchDataset(windows, first).source(), epochs=1, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == len(windows) - first
    assert len(traced) <= 2  # Keras traces once more to build the model
