"""Every recurrent layer: values, carried state, resets, masks and gradients, against NumPy."""

import keras
import numpy as np
import pytest

from keraslm.config import ModelConfig
from keraslm.config.shapes import cell_shapes
from keraslm.layers.cells import StatefulGRU, StatefulMogrifierLSTM, StatefulRNN
from keraslm.layers.lstm import StatefulLSTM
from keraslm.network.parts import SeededUniform, describe_cell, recurrent_layer, seed_of
from tests.reference.cells import numpy_gru, numpy_lstm_variant, numpy_rnn
from tests.reference.differences import central_differences
from tests.reference.lstm import numpy_lstm
from tests.support.gradients import tensor
from tests.support.stateful import RANDOM, STREAM, WINDOWS, ZERO, B, Chunks, D, H, T, model_of, to_numpy, weights_of


class Case:
    """A layer and its formula; `weights` have values that no initializer draws."""

    def __init__(self, layer_class, numpy_form, states, **arguments):
        self.layer_class, self.numpy_form, self.arguments = layer_class, numpy_form, arguments
        self.zero = [ZERO] * states

    def built(self, **arguments):
        layer = self.layer_class(H, name="memory", seed=1, **self.arguments, **arguments)
        layer.build((B, None, D))
        for number, weight in enumerate(layer.trainable_weights):
            weight.assign(np.random.default_rng(number).normal(size=weight.shape, scale=0.5))
        return layer

    def reference(self, x, state, weights, **factors):
        own = {name: self.arguments[name] for name in ("rank", "input_gate") if name in self.arguments}
        return self.numpy_form(x, state, weights, **factors, **own)


def lstm_form(x, state, weights, **factors):
    outputs, *state = numpy_lstm(x, *state, *weights, **factors)
    return outputs, state


CASES = {
    "lstm": Case(StatefulLSTM, lstm_form, 2),
    "gru": Case(StatefulGRU, numpy_gru, 1),
    "rnn": Case(StatefulRNN, numpy_rnn, 1),
    "mogrifier": Case(StatefulMogrifierLSTM, numpy_lstm_variant, 2, rounds=5),
    "mogrifier of a rank": Case(StatefulMogrifierLSTM, numpy_lstm_variant, 2, rounds=4, rank=2),
    "capped": Case(StatefulLSTM, numpy_lstm_variant, 2, input_gate="capped"),
    "tied": Case(StatefulLSTM, numpy_lstm_variant, 2, input_gate="tied"),
    "capped mogrifier": Case(StatefulMogrifierLSTM, numpy_lstm_variant, 2, rounds=3, rank=2, input_gate="capped"),
    "tied mogrifier": Case(StatefulMogrifierLSTM, numpy_lstm_variant, 2, rounds=2, input_gate="tied"),
}
every_cell = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def assert_state(layer, state):
    for variable, value in zip(layer.state_variables, state, strict=True):
        np.testing.assert_allclose(to_numpy(variable), value, atol=1e-5)


@every_cell
def test_outputs_equal_numpy(case):
    layer = case.built()
    outputs, state = case.reference(STREAM, case.zero, weights_of(layer))
    np.testing.assert_allclose(to_numpy(layer(STREAM)), outputs, atol=1e-5)
    assert_state(layer, state)


STOCK = {
    "lstm": lambda: keras.layers.LSTM(H, return_sequences=True),
    "gru": lambda: keras.layers.GRU(H, reset_after=True, return_sequences=True),
    "rnn": lambda: keras.layers.SimpleRNN(H, return_sequences=True),
}


@pytest.mark.parametrize("name", STOCK)
def test_outputs_equal_those_of_stock_keras_with_the_same_weights(name):
    layer, stock = CASES[name].built(), STOCK[name]()
    stock.build((B, T, D))
    stock.set_weights([to_numpy(w) for w in layer.trainable_weights])
    np.testing.assert_allclose(to_numpy(layer(STREAM)), to_numpy(stock(STREAM)), atol=1e-5)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_mogrifier_with_matrices_of_zero_is_the_stock_lstm(rank):
    layer, stock = StatefulMogrifierLSTM(H, rounds=5, rank=rank), STOCK["lstm"]()
    layer.build((B, None, D))
    for weight in layer.trainable_weights[3:]:
        weight.assign(np.zeros(weight.shape))
    stock.build((B, T, D))
    stock.set_weights([to_numpy(w) for w in layer.trainable_weights[:3]])
    np.testing.assert_allclose(to_numpy(layer(STREAM)), to_numpy(stock(STREAM)), atol=1e-5)


def test_each_round_of_a_mogrifier_has_its_weights():
    found = {w.name: tuple(w.shape) for w in CASES["mogrifier"].built().trainable_weights[3:]}
    assert found == {f"mogrifier_{i}": (H, D) if i % 2 else (D, H) for i in range(1, 6)}
    found = {w.name: tuple(w.shape) for w in CASES["mogrifier of a rank"].built().trainable_weights[3:7]}
    assert found == {
        "mogrifier_1_left": (H, 2),
        "mogrifier_1_right": (2, D),
        "mogrifier_2_left": (D, 2),
        "mogrifier_2_right": (2, H),
    }


@pytest.mark.parametrize("layer_class", [StatefulLSTM, StatefulMogrifierLSTM])
@pytest.mark.parametrize(
    ("gate", "bias"), [("free", [0, 0.75, 0, 0]), ("capped", [0, 0.75, 0, 0]), ("tied", [0.75, 0, 0])]
)
def test_the_forget_bias_is_that_of_the_forget_gate(layer_class, gate, bias):
    layer = layer_class(H, forget_bias=0.75, input_gate=gate)
    layer.build((B, None, D))
    np.testing.assert_array_equal(to_numpy(layer.bias).reshape(-1, H), np.outer(bias, np.ones(H)))


def test_a_capped_input_gate_keeps_the_cell_state_within_one():
    layer = CASES["capped"].built()
    free = CASES["lstm"].built()
    for made in (layer, free):
        for _ in range(5):
            made(8 * STREAM)
    assert np.abs(to_numpy(free.c)).max() > 1.5 and np.abs(to_numpy(layer.c)).max() <= 1


def test_an_unknown_input_gate_is_refused():
    with pytest.raises(ValueError, match="`input_gate` is 'open', but must be one of free, capped, tied"):
        StatefulLSTM(H, input_gate="open")


@every_cell
def test_one_pass_equals_chunks_of_any_length_after_a_reset(case):
    layer = case.built()
    complete = to_numpy(layer(STREAM))
    assert np.abs(to_numpy(layer.h)).max() > 0.01
    layer.reset_state()
    assert_state(layer, case.zero)
    parts = [to_numpy(layer(chunk)) for chunk in np.split(STREAM, [1, 2, 9], axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), complete, atol=1e-5)


@every_cell
def test_state_is_carried_through_evaluate_and_predict(case):
    layer = case.built()
    model = model_of(layer)
    outputs, state = case.reference(STREAM, case.zero, weights_of(layer))
    loss = model.evaluate(Chunks(with_targets=True), verbose=0)
    assert loss == pytest.approx((outputs**2).mean(axis=-1).sum() / len(WINDOWS), rel=1e-5)
    assert_state(layer, state)
    layer.reset_state()
    found = model.predict(Chunks(with_targets=False), verbose=0)  # [4B, T, H]
    np.testing.assert_allclose(np.concatenate(np.split(found, 4), axis=1), outputs, atol=1e-5)


@every_cell
def test_state_is_carried_through_fit_over_epochs(case):
    layer = case.built()
    model_of(layer).fit(Chunks(with_targets=True), epochs=2, shuffle=False, verbose=0)
    _, state = case.reference(np.concatenate([STREAM, STREAM], axis=1), case.zero, weights_of(layer))
    assert_state(layer, state)


# Resets, masks

RESETS = np.zeros((B, T), bool)
RESETS[0, 0] = RESETS[1, 3] = RESETS[1, 4] = True


@every_cell
def test_a_reset_restarts_one_row_and_leaves_the_others_alone(case):
    layer = case.built()
    layer(WINDOWS[0])
    _, state = case.reference(WINDOWS[0], case.zero, weights_of(layer))
    found = to_numpy(layer(WINDOWS[1], resets=RESETS))
    expected, state = case.reference(WINDOWS[1], state, weights_of(layer), keep=1.0 - RESETS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert_state(layer, state)


@every_cell
def test_recurrent_dropout_is_one_mask_on_h_wherever_it_enters_a_product(case, monkeypatch):
    mask = np.random.default_rng(2).choice([0.0, 2.0], size=(B, H))
    layer = case.built(recurrent_dropout=0.5)
    monkeypatch.setattr("keraslm.layers.recurrent.mask_like", lambda *_, **__: tensor(mask, np.float32))
    expected, state = case.reference(STREAM, case.zero, weights_of(layer), mask=mask)
    np.testing.assert_allclose(to_numpy(layer(STREAM, training=True)), expected, atol=1e-5)
    assert_state(layer, state)


@every_cell
@pytest.mark.parametrize("rate", ["recurrent_dropout", "dropconnect"])
def test_masks_change_from_one_compiled_step_to_the_next_and_are_off_at_inference(case, rate):
    layer = case.built(**{rate: 0.5})
    model, states = model_of(layer), []
    for _ in range(2):
        layer.reset_state()
        model.train_on_batch(WINDOWS[0], np.zeros((B, T, H)))
        states.append(to_numpy(layer.h).copy())
    assert np.abs(states[0] - states[1]).max() > 1e-3
    layer.reset_state()
    expected, _ = case.reference(WINDOWS[0], case.zero, weights_of(layer))
    np.testing.assert_allclose(model.predict_on_batch(WINDOWS[0]), expected, atol=1e-5)


@every_cell
def test_dropconnect_drops_elements_of_the_recurrent_kernel_alone(case, monkeypatch):
    layer = case.built(dropconnect=0.5)
    mask = np.random.default_rng(2).choice([0.0, 2.0], size=layer.recurrent_kernel.shape)
    monkeypatch.setattr("keraslm.layers.recurrent.mask_like", lambda *_, **__: tensor(mask, np.float32))
    kernel, recurrent_kernel, *rest = weights_of(layer)
    expected, _ = case.reference(STREAM, case.zero, [kernel, recurrent_kernel * mask, *rest])
    np.testing.assert_allclose(to_numpy(layer(STREAM, training=True)), expected, atol=1e-5)


def gradient_of(case, weights, state, inputs, targets):
    """Central differences, in each weight, of the loss of the last steps of `inputs`."""

    def loss():
        outputs, _ = case.reference(inputs, state, weights)
        return ((outputs[:, -targets.shape[1] :] - targets) ** 2).mean(axis=-1).sum()

    return central_differences(loss, weights)


def train_by_fit(model, targets):
    """Train on two windows in one `fit`; the first has weight 0, so it changes the state but no weight."""
    inputs, targets = np.concatenate(WINDOWS[:2]), np.concatenate([targets, targets])
    weights = np.repeat([0.0, 1.0], B)[:, None] * np.ones((1, T))
    model.fit(inputs, targets, sample_weight=weights, batch_size=B, shuffle=False, verbose=0)


def train_by_batch(model, targets):
    model.train_on_batch(WINDOWS[0], targets, sample_weight=np.zeros((B, T)))
    model.train_on_batch(WINDOWS[1], targets)


@pytest.mark.parametrize(("case", "train"), [*((case, train_by_fit) for case in CASES), ("lstm", train_by_batch)])
def test_gradient_of_a_window_treats_the_carried_state_as_a_constant(case, train):
    case, rate = CASES[case], 0.5
    layer = case.built()
    model, before = model_of(layer, rate), weights_of(layer)
    targets = RANDOM.normal(size=(B, T, H)).astype(np.float32)
    train(model, targets)
    found = [(old - new) / rate for old, new in zip(before, weights_of(layer), strict=True)]
    _, state = case.reference(WINDOWS[0], case.zero, before)
    cut = gradient_of(case, before, state, WINDOWS[1], targets)
    uncut = gradient_of(case, before, case.zero, STREAM[:, : 2 * T], targets)
    for value, expected in zip(found, cut, strict=True):
        np.testing.assert_allclose(value, expected, atol=5e-5)
    assert max(np.abs(one - other).max() for one, other in zip(cut, uncut, strict=True)) > 1e-2


@every_cell
def test_wrong_batch_sizes_are_refused(case):
    with pytest.raises(ValueError, match=r"'memory' was built for a batch size of 3 .* called with a batch of 2"):
        case.built()(STREAM[:2])
    with pytest.raises(ValueError, match=r"'memory' .* needs a fixed batch size.*batch_shape"):
        case.layer_class(H, name="memory")(keras.Input((None, D)))
    assert case.layer_class(H).compute_output_shape((B, None, D)) == (B, None, H)


# The choice of the cell

CONFIGS = {
    "lstm": (StatefulLSTM, {}),
    "gru": (StatefulGRU, {"cell": "gru"}),
    "rnn": (StatefulRNN, {"cell": "rnn"}),
    "mogrifier": (StatefulMogrifierLSTM, {"mogrifier_rounds": 3, "mogrifier_rank": 2, "forget_bias": 0.5}),
    "capped": (StatefulLSTM, {"input_gate": "capped"}),
    "tied mogrifier": (StatefulMogrifierLSTM, {"mogrifier_rounds": 2, "input_gate": "tied"}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_gives_a_layer_with_its_shapes_and_initial_weights(name):
    layer_class, fields = CONFIGS[name]
    config = ModelConfig(units=H, recurrent_dropout=0.1, dropconnect=0.2, init_scale=0.3, **fields)
    layer = recurrent_layer(config, 1, seed=4)
    assert config.cell != "lstm" or layer.input_gate == config.input_gate
    layer.build((B, None, D))
    assert type(layer) is layer_class and layer.name == f"{config.cell}_1"
    assert (layer.recurrent_dropout, layer.dropconnect, layer.seed) == (0.1, 0.2, seed_of(4, layer.name))
    assert [(w.name, tuple(w.shape)) for w in layer.trainable_weights] == list(cell_shapes(config, D, H).items())
    for weight in layer.trainable_weights:
        if weight.name != "bias":
            draw = SeededUniform(0.3, 4, f"{layer.name}/{weight.name}")(weight.shape)
            np.testing.assert_array_equal(to_numpy(weight), to_numpy(draw))


def test_the_implementation_is_described(backend):
    assert describe_cell(ModelConfig()) == f"hand-written {backend} kernel, matrix products in float32"
    loop = f"{backend} loop with automatic differentiation, matrix products in float32"
    assert describe_cell(ModelConfig(cell="gru"), "bfloat16") == loop  # only an LSTM has products of other types
    assert describe_cell(ModelConfig(mogrifier_rounds=5)) == f"Mogrifier with 5 rounds, {loop}"
    assert describe_cell(ModelConfig(input_gate="capped")) == f"capped input gate, {loop}"
    assert describe_cell(ModelConfig(input_gate="tied")) == describe_cell(ModelConfig())


def test_a_step_of_its_own_is_named():
    found = {name: ModelConfig(**fields).own_step for name, (_, fields) in CONFIGS.items()}
    assert found == {
        **dict.fromkeys(("lstm", "gru", "rnn"), ""),
        **dict.fromkeys(("mogrifier", "tied mogrifier"), "a Mogrifier"),
        "capped": "a capped input gate",
    }
    both = ModelConfig(mogrifier_rounds=2, input_gate="capped")
    assert both.own_step == "a Mogrifier with a capped input gate"
