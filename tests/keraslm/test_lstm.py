import keras
import numpy as np
import pytest
from keras import ops

from keraslm.layers.lstm import StatefulLSTM
from tests.reference.lstm import numpy_lstm

B, T, D, H = 3, 5, 4, 6
RANDOM = np.random.default_rng(0)
STREAM = RANDOM.normal(size=(B, 4 * T, D)).astype(np.float32)  # [B, 4T, D]
WINDOWS = np.split(STREAM, 4, axis=1)
ZERO = np.zeros((B, H))


def to_numpy(value):
    return ops.convert_to_numpy(value)


def built(**arguments):
    layer = StatefulLSTM(H, name="memory", seed=1, **arguments)
    layer.build((B, None, D))
    for weight in layer.trainable_weights:
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape, scale=0.5))
    return layer


def weights_of(layer):
    return [to_numpy(w).astype(np.float64) for w in layer.trainable_weights]


def model_of(layer, learning_rate=0.0):
    inputs = keras.Input(batch_shape=(B, None, D))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(learning_rate), keras.losses.MeanSquaredError(reduction="sum"))
    return model


def assert_state(layer, h, c):
    np.testing.assert_allclose(to_numpy(layer.h), h, atol=1e-5)
    np.testing.assert_allclose(to_numpy(layer.c), c, atol=1e-5)


class Chunks(keras.utils.PyDataset):
    """The windows of the stream as batches, with targets for `fit`."""

    def __init__(self, with_targets):
        super().__init__()
        self.with_targets = with_targets

    def __len__(self):
        return len(WINDOWS)

    def __getitem__(self, index):
        inputs = WINDOWS[index]
        return (inputs, np.zeros((B, T, H), np.float32)) if self.with_targets else (inputs,)


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
    return ((outputs[:, -T:] - targets) ** 2).mean(axis=-1).sum()


def gradient_of(weights, *arguments):
    """Central differences of `loss_of` in each weight."""
    gradients = [np.zeros_like(w) for w in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        for place in np.ndindex(weight.shape):
            kept, around = weight[place], []
            for sign in (1, -1):
                weight[place] = kept + sign * 1e-5
                around.append(loss_of(weights, *arguments))
            weight[place] = kept
            gradient[place] = (around[0] - around[1]) / 2e-5
    return gradients


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


# Recurrent dropout


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
