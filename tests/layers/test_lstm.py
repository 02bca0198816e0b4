import keras
import numpy as np
import pytest

from keraslm.layers.lstm import StatefulLSTM
from tests.reference.differences import central_differences
from tests.reference.lstm import numpy_lstm
from tests.support.stateful import (
    RANDOM,
    STREAM,
    WINDOWS,
    ZERO,
    B,
    Chunks,
    D,
    H,
    T,
    assert_state,
    built,
    model_of,
    to_numpy,
    weights_of,
)

# Values


def test_outputs_equal_numpy():
    layer = built()
    outputs, h, c = numpy_lstm(STREAM, ZERO, ZERO, *weights_of(layer))
    np.testing.assert_allclose(to_numpy(layer(STREAM)), outputs, atol=1e-5)
    assert_state(layer, h, c)


def test_outputs_equal_those_of_stock_keras_with_our_weights():
    layer, stock = built(), keras.layers.LSTM(H, return_sequences=True)
    stock.build((B, T, D))
    stock.set_weights([to_numpy(w) for w in layer.trainable_weights])
    np.testing.assert_allclose(to_numpy(layer(STREAM)), to_numpy(stock(STREAM)), atol=1e-5)


def test_outputs_equal_those_of_stock_keras_with_its_weights():
    layer, stock = built(), keras.layers.LSTM(H, return_sequences=True)
    expected = to_numpy(stock(STREAM))
    for variable, value in zip(layer.trainable_weights, stock.get_weights(), strict=True):
        variable.assign(value)
    np.testing.assert_allclose(to_numpy(layer(STREAM)), expected, atol=1e-5)


def test_forget_bias_lands_in_the_second_quarter_of_the_bias():
    layer = StatefulLSTM(H, forget_bias=0.75)
    layer.build((B, None, D))
    np.testing.assert_array_equal(to_numpy(layer.bias).reshape(4, H), np.outer([0, 0.75, 0, 0], np.ones(H)))


# State


@pytest.mark.parametrize("cuts", [[T], [1, 2, 3], [7, 19]])
def test_one_pass_equals_chunks_of_any_length(cuts):
    layer = built()
    whole = to_numpy(layer(STREAM))
    layer.reset_states()
    parts = [to_numpy(layer(chunk)) for chunk in np.split(STREAM, cuts, axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)


def test_reset_states_starts_again_from_zero():
    layer = built()
    first = to_numpy(layer(STREAM))
    assert np.abs(to_numpy(layer.h)).max() > 0.01
    assert np.abs(to_numpy(layer(STREAM)) - first).max() > 0.01
    layer.reset_states()
    assert_state(layer, ZERO, ZERO)
    np.testing.assert_allclose(to_numpy(layer(STREAM)), first, atol=1e-6)


def test_state_is_carried_through_predict():
    layer = built()
    outputs, h, c = numpy_lstm(STREAM, ZERO, ZERO, *weights_of(layer))
    found = model_of(layer).predict(Chunks(with_targets=False), verbose=0)  # [4B, T, H]
    np.testing.assert_allclose(np.concatenate(np.split(found, 4), axis=1), outputs, atol=1e-5)
    assert_state(layer, h, c)


def test_state_is_carried_through_predict_on_batch():
    layer = built()
    model = model_of(layer)
    outputs, h, c = numpy_lstm(STREAM, ZERO, ZERO, *weights_of(layer))
    found = [model.predict_on_batch(window) for window in WINDOWS]
    np.testing.assert_allclose(np.concatenate(found, axis=1), outputs, atol=1e-5)
    assert_state(layer, h, c)


def test_state_is_carried_through_evaluate():
    layer = built()
    outputs, h, c = numpy_lstm(STREAM, ZERO, ZERO, *weights_of(layer))
    loss = model_of(layer).evaluate(Chunks(with_targets=True), verbose=0)
    assert loss == pytest.approx((outputs**2).mean(axis=-1).sum() / len(WINDOWS), rel=1e-5)
    assert_state(layer, h, c)


def test_state_is_carried_through_fit_over_epochs():
    layer = built()
    model_of(layer).fit(Chunks(with_targets=True), epochs=2, shuffle=False, verbose=0)
    _, h, c = numpy_lstm(np.concatenate([STREAM, STREAM], axis=1), ZERO, ZERO, *weights_of(layer))
    assert_state(layer, h, c)


def test_state_is_part_of_the_models_weights():
    layer = built()
    paths = [v.path for v in model_of(layer).non_trainable_variables]
    assert paths == ["memory/h", "memory/c"]
    assert [w.path for w in layer.trainable_weights] == ["memory/kernel", "memory/recurrent_kernel", "memory/bias"]


# Gradient


def loss_of(weights, h, c, inputs, targets):
    outputs, _, _ = numpy_lstm(inputs, h, c, *weights)
    return ((outputs[:, -targets.shape[1] :] - targets) ** 2).mean(axis=-1).sum()


def gradient_of(weights, *arguments):
    """Central differences of `loss_of` in each weight."""
    return central_differences(lambda: loss_of(weights, *arguments), weights)


def train_by_fit(model, targets):
    """Two windows in one `fit`; the first has weight 0 and so leaves its state behind, but changes no weight."""
    inputs, targets = np.concatenate(WINDOWS[:2]), np.concatenate([targets, targets])
    weights = np.repeat([0.0, 1.0], B)[:, None] * np.ones((1, T))
    model.fit(inputs, targets, sample_weight=weights, batch_size=B, shuffle=False, verbose=0)


def train_by_batch(model, targets):
    model.train_on_batch(WINDOWS[0], targets, sample_weight=np.zeros((B, T)))
    model.train_on_batch(WINDOWS[1], targets)


@pytest.mark.parametrize("train", [train_by_fit, train_by_batch])
def test_gradient_of_a_window_takes_the_state_before_it_as_a_constant(train):
    layer, rate = built(), 0.5
    model, before = model_of(layer, rate), weights_of(layer)
    targets = RANDOM.normal(size=(B, T, H)).astype(np.float32)
    train(model, targets)
    found = [(old - new) / rate for old, new in zip(before, weights_of(layer), strict=True)]
    _, h, c = numpy_lstm(WINDOWS[0], ZERO, ZERO, *before)
    cut = gradient_of(before, h, c, WINDOWS[1], targets)
    uncut = gradient_of(before, ZERO, ZERO, STREAM[:, : 2 * T], targets)
    for value, expected, other in zip(found, cut, uncut, strict=True):
        np.testing.assert_allclose(value, expected, atol=2e-5)
        assert np.abs(expected - other).max() > 1e-2


# Resets

RESETS = np.zeros((B, T), bool)
RESETS[0, 0] = RESETS[1, 3] = RESETS[1, 4] = True


def test_a_reset_starts_one_row_anew_and_leaves_the_others_alone():
    layer = built()
    layer(WINDOWS[0])
    _, h, c = numpy_lstm(WINDOWS[0], ZERO, ZERO, *weights_of(layer))
    found = to_numpy(layer(WINDOWS[1], resets=RESETS))
    expected, h, c = numpy_lstm(WINDOWS[1], h, c, *weights_of(layer), keep=1.0 - RESETS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert_state(layer, h, c)
    fresh, _, _ = numpy_lstm(WINDOWS[1][1:2, 4:], ZERO[:1], ZERO[:1], *weights_of(layer))
    np.testing.assert_allclose(found[1:2, 4:], fresh, atol=1e-5)


def test_resets_are_an_input_of_a_functional_model_that_trains_past_them():
    """The gradient of the steps before a reset, by what comes after it, is zero: nothing leaks backward either."""
    layer = built()
    inputs, resets = keras.Input(batch_shape=(B, None, D)), keras.Input(batch_shape=(B, None), dtype="bool")
    model = keras.Model([inputs, resets], layer(inputs, resets=resets))
    model.compile(keras.optimizers.SGD(1.0), keras.losses.MeanSquaredError(reduction="sum"))
    before = weights_of(layer)
    late = np.zeros((B, T))
    late[:, 3:] = 1.0  # only what comes after the resets is paid for
    model.train_on_batch([WINDOWS[0], late.cumsum(axis=1) == 1], np.ones((B, T, H)), sample_weight=late)
    moved = [old - new for old, new in zip(before, weights_of(layer), strict=True)]
    alone = [w.copy() for w in before]
    expected = gradient_of(alone, ZERO, ZERO, WINDOWS[0][:, 3:], np.ones((B, T - 3, H)))
    for value, gradient in zip(moved, expected, strict=True):
        np.testing.assert_allclose(value, gradient, atol=2e-5)


# Shapes that are refused


def test_wrong_batch_size_names_the_layer_and_both_sizes():
    with pytest.raises(ValueError, match=r"'memory' was built for batch_size=3 .* called with a batch of 2"):
        built()(STREAM[:2])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        # The dangerous case: one row would broadcast over the state of all rows without a word.
        (1, r"(?s)memory.*(batch_size=3.*batch of 1|\[1,.*\[3,)"),
        # TensorFlow feeds batches of unknown size, so an error of its own comes, of any operation that sees the shapes.
        (2, r"(?s)memory.*batch_size=3.*batch of 2|\[3,.*\[2,|\[2,.*\[3,"),
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


def test_unknown_batch_size_names_the_layer_and_the_remedy():
    with pytest.raises(ValueError, match=r"'memory' .* needs a fixed batch size.*batch_shape"):
        StatefulLSTM(H, name="memory")(keras.Input((None, D)))


# Configuration


def test_configuration_goes_round():
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


def test_output_shape_is_known_before_a_call():
    assert StatefulLSTM(H).compute_output_shape((B, None, D)) == (B, None, H)
