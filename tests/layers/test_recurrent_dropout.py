import keras
import numpy as np

from keraslm.layers.dropout import mask_like
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


def test_recurrent_dropout_has_one_mask_per_row_for_all_steps():
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


def test_recurrent_dropout_is_off_at_inference():
    np.testing.assert_allclose(factors(mask_revealing_layer(), training=False), 1, atol=1e-4)


# DropConnect


def dropped_kernel(layer, number):
    """The recurrent kernel of the layer's call of that number, counted from 0."""
    kernel, generator = layer.recurrent_kernel, keras.random.SeedGenerator(layer.seed)
    masks = [mask_like(keras.ops.convert_to_tensor(kernel), layer.dropconnect, generator) for _ in range(number + 1)]
    return to_numpy(kernel * masks[-1]).astype(np.float64)


def test_the_lstm_runs_with_one_masked_kernel_per_window():
    layer = built(dropconnect=0.5)
    kernel, _, bias = weights_of(layer)
    h, c = ZERO, ZERO
    for number, window in enumerate(WINDOWS[:2]):
        masked = dropped_kernel(layer, number)
        assert 0.2 < (masked == 0).mean() < 0.8
        expected, h, c = numpy_lstm(window, h, c, kernel, masked, bias)
        np.testing.assert_allclose(to_numpy(layer(window, training=True)), expected, atol=1e-5)
    assert (dropped_kernel(layer, 0) != dropped_kernel(layer, 1)).any()


def test_connections_dropped_in_a_compiled_step_change_with_the_steps_and_get_no_gradient():
    layer = built(dropconnect=0.5)
    before = to_numpy(layer.recurrent_kernel).copy()
    model, changed = model_of(layer, learning_rate=0.1), []
    for number in range(2):
        dropped = dropped_kernel(layer, number) == 0
        layer.reset_state()
        model.train_on_batch(WINDOWS[0], np.zeros((B, T, H)))
        after = to_numpy(layer.recurrent_kernel).copy()
        changed.append(after != before)
        np.testing.assert_array_equal(after[dropped], before[dropped])
        assert (after[~dropped] != before[~dropped]).mean() > 0.9
        before = after
    assert (changed[0] != changed[1]).any()
