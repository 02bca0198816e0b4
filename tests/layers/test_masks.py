import keras
import numpy as np
import pytest
from keras import ops

from keraslm.layers.lstm import StatefulLSTM
from keraslm.layers.masks import drop_connections, mask_like, recurrent_mask, seed_generator
from tests.reference.lstm import numpy_lstm
from tests.support.gradients import gradients, tensor
from tests.support.stateful import STREAM, WINDOWS, ZERO, B, H, T, built, model_of, to_numpy, weights_of

KERNEL = np.random.default_rng(1).normal(size=(60, 240)).astype(np.float32)


def generator(seed=1):
    return keras.random.SeedGenerator(seed)


# The masks themselves


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_mask_is_0_or_one_over_the_share_that_is_kept(rate):
    found = to_numpy(mask_like(tensor(KERNEL), rate, generator()))
    kept = found != 0
    assert found.shape == KERNEL.shape and found.dtype == np.float32
    np.testing.assert_allclose(found[kept], 1 / (1 - rate), rtol=1e-3)
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / kept.size)


def test_a_rate_near_0_drops_next_to_nothing():
    assert to_numpy(mask_like(tensor(KERNEL), 1e-6, generator())).mean() > 0.99


def test_each_mask_is_another_and_a_seed_gives_one_sequence():
    one, same, other = generator(), generator(), generator(2)
    masks = [to_numpy(mask_like(tensor(KERNEL), 0.5, one)) for _ in range(2)]
    assert 0.4 < (masks[0] == masks[1]).mean() < 0.6
    for mask in masks:
        np.testing.assert_array_equal(to_numpy(mask_like(tensor(KERNEL), 0.5, same)), mask)
    assert 0.4 < (masks[0] == to_numpy(mask_like(tensor(KERNEL), 0.5, other))).mean() < 0.6


def test_where_nothing_is_dropped_nothing_is_made():
    kernel, h = tensor(KERNEL), tensor(np.ones((2, 3), np.float32))
    assert seed_generator(1, 0.0, 0.0) is None and seed_generator(1, 0.0, 0.1) is not None
    assert recurrent_mask(h, 0.5, generator(), training=False) is None
    assert recurrent_mask(h, 0.0, generator(), training=True) is None
    assert drop_connections(kernel, 0.5, generator(), training=False) is kernel
    assert drop_connections(kernel, 0.0, generator(), training=True) is kernel


def test_the_gradient_of_dropped_connections_is_the_mask_times_what_comes_in():
    mask = to_numpy(mask_like(tensor(KERNEL), 0.5, generator()))
    cotangent = np.random.default_rng(2).normal(size=KERNEL.shape).astype(np.float32)
    loss = lambda kernel: ops.sum(drop_connections(kernel, 0.5, generator(), True) * tensor(cotangent))  # noqa: E731
    (found,) = gradients(loss, [tensor(KERNEL)])
    np.testing.assert_allclose(found, mask * cotangent, rtol=1e-6)


# DropConnect in the LSTM


def dropped_kernel(layer, number):
    """The recurrent kernel of the layer's call of that number, counted from 0."""
    again = generator(layer.seed)
    for _ in range(number + 1):
        kernel = drop_connections(layer.recurrent_kernel, layer.dropconnect, again, training=True)
    return to_numpy(kernel).astype(np.float64)


def test_the_lstm_runs_with_one_masked_kernel_a_window():
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
        layer.reset_states()
        model.train_on_batch(WINDOWS[0], np.zeros((B, T, H)))
        after = to_numpy(layer.recurrent_kernel).copy()
        changed.append(after != before)
        np.testing.assert_array_equal(after[dropped], before[dropped])
        assert (after[~dropped] != before[~dropped]).mean() > 0.9
        before = after
    assert (changed[0] != changed[1]).any()


def test_no_connection_is_dropped_at_inference():
    layer = built(dropconnect=0.5)
    outputs, _, _ = numpy_lstm(STREAM, ZERO, ZERO, *weights_of(layer))
    np.testing.assert_allclose(to_numpy(layer(STREAM)), outputs, atol=1e-5)


def test_both_masks_of_the_lstm_go_together_and_its_configuration_round():
    layer = built(dropconnect=0.5, recurrent_dropout=0.25)
    assert to_numpy(layer(WINDOWS[0], training=True)).shape == (B, T, H)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is StatefulLSTM and again.get_config() == layer.get_config()
