import keras
import numpy as np
import pytest

from keraslm.layers.lstm import StatefulLSTM
from tests.reference.differences import central_differences
from tests.reference.lstm import numpy_lstm
from tests.support.stateful import (
    STREAM,
    WINDOWS,
    ZERO,
    B,
    D,
    H,
    T,
    assert_state,
    built,
    model_of,
    to_numpy,
    weights_of,
)


def test_state_is_carried_through_predict_on_batch():
    layer = built()
    model = model_of(layer)
    outputs, h, c = numpy_lstm(STREAM, ZERO, ZERO, *weights_of(layer))
    found = [model.predict_on_batch(window) for window in WINDOWS]
    np.testing.assert_allclose(np.concatenate(found, axis=1), outputs, atol=1e-5)
    assert_state(layer, h, c)


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


def test_a_configuration_gives_the_same_layer():
    layer = StatefulLSTM(
        H,
        forget_bias=0.5,
        recurrent_dropout=0.25,
        kernel_initializer=keras.initializers.RandomUniform(-0.2, 0.2, seed=5),
        recurrent_initializer="zeros",
        seed=7,
        name="memory",
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is StatefulLSTM
    assert again.get_config() == layer.get_config()
    for copy in (layer, again):
        copy.build((B, None, D))
    np.testing.assert_array_equal(to_numpy(again.kernel), to_numpy(layer.kernel))
    np.testing.assert_array_equal(to_numpy(again.bias), to_numpy(layer.bias))
