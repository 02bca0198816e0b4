import keras
import numpy as np
import pytest

from keraslm.layers.dropout import Dropout
from tests.support.gradients import gradients, tensor

ONES = np.ones((20, 30, 50), np.float32)


def dropped(layer, x=ONES):
    return keras.ops.convert_to_numpy(layer(tensor(x), training=True))


@pytest.mark.parametrize("rate", [1e-6, 0.1, 0.5, 0.65, 0.95])
def test_each_element_is_dropped_or_scaled_and_the_mean_stays(rate):
    found = dropped(Dropout(rate, seed=1))
    kept = found != 0
    np.testing.assert_allclose(found[kept], 1 / (1 - rate), rtol=1e-3)
    deviation = np.sqrt(rate * (1 - rate) / ONES.size)
    assert abs(kept.mean() - (1 - rate)) < 5 * deviation
    assert rate < 0.1 or len({kept[0].tobytes(), kept[1].tobytes(), kept[:, 0].tobytes(), kept[:, 1].tobytes()}) == 4


@pytest.mark.parametrize(
    ("rate", "dtype"), [(1e-6, "float32"), (1 - 1e-6, "float32"), (0.1, "bfloat16"), (0.001, "float16")]
)
def test_the_rate_is_not_rounded_to_the_resolution_of_a_type(rate, dtype):
    size = 5_000_000
    found = dropped(Dropout(rate, seed=1, dtype=dtype), np.ones((1, size), np.float32))
    assert abs((found == 0).sum() - rate * size) < 5 * np.sqrt(rate * (1 - rate) * size)


def test_neighbours_are_dropped_independently():
    kept = dropped(Dropout(0.3, seed=2)).ravel() != 0
    for distance in (1, 2, 3, 4, 50, 1500):
        both = (kept[distance:] & kept[:-distance]).mean()
        assert abs(both - 0.49) < 5 * np.sqrt(0.49 * 0.51 / kept.size) * 1.5


def test_masks_differ_from_call_to_call_and_from_seed_to_seed():
    layer = Dropout(0.5, seed=1)
    first, second = dropped(layer), dropped(layer)
    assert 0.4 < (first == second).mean() < 0.6
    assert 0.4 < (first == dropped(Dropout(0.5, seed=2))).mean() < 0.6


def test_the_state_of_the_generator_determines_the_next_masks():
    """A checkpoint stores only this variable of a dropout layer."""
    one, other = Dropout(0.5, seed=7), Dropout(0.5, seed=8)
    dropped(one)
    other.seed_generator.state.assign(one.seed_generator.state)
    np.testing.assert_array_equal(dropped(one), dropped(other))


@pytest.mark.parametrize("locked", [False, True])
def test_nothing_is_dropped_without_training_or_at_rate_zero(locked):
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(Dropout(0.5, locked)(ONES, training=False)), ONES)
    np.testing.assert_array_equal(dropped(Dropout(0.0, locked)), ONES)


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_any_number_of_elements(size):
    found = dropped(Dropout(0.5, seed=1), np.ones((1, size), np.float32))
    assert found.shape == (1, size)
    assert set(np.unique(found)) <= {0.0, 2.0}


def test_the_gradient_is_the_mask():
    x, layer = tensor(ONES[:2]), Dropout(0.5, seed=3)
    (gradient,) = gradients(lambda x: keras.ops.sum(layer(x, training=True)), [x])
    np.testing.assert_array_equal(gradient, dropped(Dropout(0.5, seed=3), ONES[:2]))


def test_the_memory_layout_of_the_input_is_kept(backend):
    if backend != "torch":
        pytest.skip("only torch has tensors whose memory is in another order than their axes")
    x = tensor(ONES).transpose(0, 1)
    found = Dropout(0.5, seed=3)(x, training=True)
    assert found.stride() == x.stride()
    assert set(np.unique(found.numpy())) == {0.0, 2.0}


def test_a_locked_mask_is_the_same_for_all_steps_and_differs_between_rows_and_calls():
    layer = Dropout(0.5, locked=True, seed=1)
    first, second = dropped(layer), dropped(layer)
    for found in (first, second):
        assert set(np.unique(found)) == {0.0, 2.0}
        np.testing.assert_array_equal(found, np.repeat(found[:, :1], 30, axis=1))
    assert len({mask.tobytes() for mask in (*first[:, 0], *second[:, 0])}) == 40


def test_a_locked_mask_keeps_the_mean():
    found = dropped(Dropout(0.3, locked=True, seed=1), np.ones((200, 2, 50), np.float32))
    assert abs((found != 0).mean() - 0.7) < 5 * np.sqrt(0.21 / 10_000)
    np.testing.assert_allclose(found[found != 0], 1 / 0.7, rtol=1e-3)
