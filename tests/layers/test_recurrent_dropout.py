import numpy as np

from keraslm.layers.lstm import StatefulLSTM
from tests.reference.lstm import numpy_lstm
from tests.support.stateful import (
    STREAM,
    WINDOWS,
    ZERO,
    B,
    D,
    H,
    T,
    built,
    model_of,
    to_numpy,
    weights_of,
)


def mask_revealing_layer(rate=0.25):
    """A layer of 8 units whose output tells the factor on `h` of each step: h = tanh(tanh(factor * h + 0.3))."""
    layer = StatefulLSTM(8, recurrent_dropout=rate, seed=4)
    layer.build((B, None, D))
    eye, none = np.eye(8), np.zeros((8, 8))
    layer.kernel.assign(np.zeros((D, 32)))
    layer.recurrent_kernel.assign(np.concatenate([none, none, eye, none], axis=1))
    layer.bias.assign(np.repeat([40.0, -40.0, 0.3, 40.0], 8))  # i and o open, f shut
    layer.h.assign(np.full((B, 8), 0.5))
    return layer


def factors(layer, training):
    h = to_numpy(layer.h).astype(np.float64)[:, None]
    outputs = to_numpy(layer(STREAM, training=training)).astype(np.float64)
    before = np.concatenate([h, outputs[:, :-1]], axis=1)
    return (np.arctanh(np.arctanh(outputs)) - 0.3) / before  # [B, 4T, 8]


def test_recurrent_dropout_has_one_mask_a_row_for_all_steps():
    found = factors(mask_revealing_layer(), training=True)
    np.testing.assert_allclose(found, np.repeat(found[:, :1], 4 * T, axis=1), atol=1e-4)
    assert not np.allclose(found[0], found[1], atol=1e-2) or not np.allclose(found[0], found[2], atol=1e-2)


def test_recurrent_dropout_drops_or_scales():
    found = factors(mask_revealing_layer(), training=True)
    dropped, scaled = np.isclose(found, 0, atol=1e-4), np.isclose(found, 1 / 0.75, atol=1e-4)
    assert dropped.any() and scaled.any() and (dropped | scaled).all()


def test_recurrent_dropout_changes_from_call_to_call():
    layer = mask_revealing_layer()
    assert not np.allclose(factors(layer, training=True)[:, 0], factors(layer, training=True)[:, 0], atol=1e-2)


def test_recurrent_dropout_changes_from_one_compiled_step_to_the_next():
    layer = built(recurrent_dropout=0.5)
    model, states = model_of(layer), []
    for _ in range(2):
        layer.reset_states()
        model.train_on_batch(WINDOWS[0], np.zeros((B, T, H)))
        states.append(to_numpy(layer.h).copy())
    assert np.abs(states[0] - states[1]).max() > 1e-3


def test_recurrent_dropout_is_off_at_inference():
    np.testing.assert_allclose(factors(mask_revealing_layer(), training=False), 1, atol=1e-4)
    layer = built(recurrent_dropout=0.5)
    outputs, _, _ = numpy_lstm(STREAM, ZERO, ZERO, *weights_of(layer))
    np.testing.assert_allclose(np.concatenate([model_of(layer).predict_on_batch(STREAM)]), outputs, atol=1e-5)
