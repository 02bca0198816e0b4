"""Recurrent states during `fit()` and `evaluate()`, compared with NumPy."""

import keras
import numpy as np
import pytest

from keraslm.network.model import stateful_layers
from keraslm.training import callbacks
from keraslm.training.dataset import BatchDataset
from tests.reference.language_model import language_model, token_nats


def states_of(model):
    return [keras.ops.convert_to_numpy(s).copy() for layer in stateful_layers(model) for s in (layer.h, layer.c)]


def assert_states(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def expected_of(model, windows):
    """Mean loss of the windows and the states after them, from zero states, by NumPy."""
    weights = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    inputs, targets = (np.concatenate(part, axis=1) for part in zip(*windows, strict=True))
    logits, states = language_model(weights, inputs)
    loss = token_nats(targets, logits).sum() / len(targets) / len(windows)
    return loss, [value for state in states for value in state]


def test_each_epoch_starts_from_a_zero_state(standing_model, corpus):
    loss, states = expected_of(standing_model, corpus[1])
    history = standing_model.fit(
        BatchDataset(corpus[1]), epochs=2, shuffle=False, verbose=0, callbacks=[callbacks.ResetStates()]
    )
    assert history.history["loss"] == pytest.approx([loss, loss], rel=1e-5)
    assert_states(states_of(standing_model), states)


def test_without_the_callback_the_state_is_carried_into_the_next_epoch(standing_model, corpus):
    """If Keras ever starts to reset states, the test above proves nothing."""
    losses = standing_model.fit(BatchDataset(corpus[1]), epochs=2, shuffle=False, verbose=0).history["loss"]
    assert abs(losses[0] - losses[1]) > 1e-4 * losses[0]


def test_validation_starts_from_zero_and_restores_the_training_state(standing_model, corpus):
    (loss, states), (val_loss, val_states) = (expected_of(standing_model, windows) for windows in corpus[1:])
    during, after = [], []
    validated = keras.callbacks.LambdaCallback(on_test_end=lambda logs: during.append(states_of(standing_model)))
    trained = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: after.append(states_of(standing_model)))
    history = standing_model.fit(
        BatchDataset(corpus[1]),
        validation_data=BatchDataset(corpus[2]),
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[validated, callbacks.ResetStates(), trained],
    ).history
    assert history["val_loss"] == pytest.approx([val_loss] * 2, rel=1e-5)
    assert history["loss"] == pytest.approx([loss] * 2, rel=1e-5)
    assert len(during) == len(after) == 2
    for number in range(2):
        assert_states(during[number], val_states)
        assert_states(after[number], states)


def test_evaluate_starts_from_zero_and_restores_the_state(standing_model, corpus):
    loss, _ = expected_of(standing_model, corpus[2])
    standing_model.predict_on_batch(list(corpus[1][0]))
    before = states_of(standing_model)
    assert max(np.abs(state).max() for state in before) > 1e-3
    for _ in range(2):
        found = standing_model.evaluate(BatchDataset(corpus[2]), verbose=0, callbacks=[callbacks.ResetStates()])
        assert found == pytest.approx(loss, rel=1e-5)
        assert_states(states_of(standing_model), before)
