import keras
import numpy as np
import pytest

from keraslm.layers.dropout import mask_like
from tests.reference.differences import central_differences
from tests.reference.lstm import numpy_lstm
from tests.support.stateful import STREAM, WINDOWS, ZERO, B, D, H, T, built, model_of, to_numpy, weights_of


def test_resets_are_an_input_of_a_functional_model_that_trains_past_them():
    """No gradient flows from the steps after a reset to those before it."""
    layer = built()
    inputs, resets = keras.Input(batch_shape=(B, None, D)), keras.Input(batch_shape=(B, None), dtype="bool")
    model = keras.Model([inputs, resets], layer(inputs, resets=resets))
    model.compile(keras.optimizers.SGD(1.0), keras.losses.MeanSquaredError(reduction="sum"))
    before = weights_of(layer)
    late = np.zeros((B, T))
    late[:, 3:] = 1.0  # only steps after the resets have a loss
    model.train_on_batch([WINDOWS[0], late.cumsum(axis=1) == 1], np.ones((B, T, H)), sample_weight=late)
    moved = [old - new for old, new in zip(before, weights_of(layer), strict=True)]

    def loss():
        return ((numpy_lstm(WINDOWS[0][:, 3:], ZERO, ZERO, *before)[0] - 1) ** 2).mean(axis=-1).sum()

    expected = central_differences(loss, before)
    for value, gradient in zip(moved, expected, strict=True):
        np.testing.assert_allclose(value, gradient, atol=2e-5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        # The dangerous case: one row would silently broadcast over the state of all rows.
        (1, r"(?s)memory.*(batch size of 3.*batch of 1|\[1,.*\[3,)"),
        # TensorFlow feeds batches of unknown size, so the error may come from any operation that sees the shapes.
        (2, r"(?s)memory.*batch size of 3.*batch of 2|\[3,.*\[2,|\[2,.*\[3,"),
    ],
    ids=["one-row", "two-rows"],
)
@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_a_last_batch_with_fewer_rows_is_refused_by_a_model(call, rows, message):
    model = model_of(built())
    inputs = np.concatenate([STREAM, STREAM[:rows]])
    arguments = (inputs,) if call == "predict" else (inputs, np.zeros((*inputs.shape[:2], H)))
    with pytest.raises(Exception, match=message):
        getattr(model, call)(*arguments, batch_size=B, verbose=0)


def masks_of(layer, x):
    """The masks of the layer's first two calls in training, of the shape of `x`."""
    generator = keras.random.SeedGenerator(layer.seed)
    return [to_numpy(mask_like(keras.ops.convert_to_tensor(x), 0.5, generator)).astype(np.float64) for _ in range(2)]


@pytest.mark.parametrize("rate", ["recurrent_dropout", "dropconnect"])
def test_each_window_has_one_mask_for_all_steps(rate):
    layer = built(**{rate: 0.5})
    kernel, recurrent_kernel, bias = weights_of(layer)
    h, c = ZERO, ZERO
    masks = masks_of(layer, ZERO.astype(np.float32) if rate == "recurrent_dropout" else layer.recurrent_kernel)
    for window, mask in zip(WINDOWS, masks, strict=False):
        assert set(np.unique(mask).round(3)) == {0, 2}
        if rate == "recurrent_dropout":
            expected, h, c = numpy_lstm(window, h, c, kernel, recurrent_kernel, bias, mask)
        else:
            expected, h, c = numpy_lstm(window, h, c, kernel, recurrent_kernel * mask, bias)
        np.testing.assert_allclose(to_numpy(layer(window, training=True)), expected, atol=1e-4)
    assert (masks[0] != masks[1]).any()


def test_connections_dropped_in_a_compiled_step_change_with_the_steps_and_get_no_gradient():
    layer = built(dropconnect=0.5)
    before = to_numpy(layer.recurrent_kernel).copy()
    model, changed = model_of(layer, learning_rate=0.1), []
    for mask in masks_of(layer, layer.recurrent_kernel):
        dropped = mask == 0
        layer.reset_state()
        model.train_on_batch(WINDOWS[0], np.zeros((B, T, H)))
        after = to_numpy(layer.recurrent_kernel).copy()
        changed.append(after != before)
        np.testing.assert_array_equal(after[dropped], before[dropped])
        assert (after[~dropped] != before[~dropped]).mean() > 0.9
        before = after
    assert (changed[0] != changed[1]).any()
