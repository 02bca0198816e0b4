import itertools
import zlib
from dataclasses import replace

import keras
import numpy as np
import pytest

from keraslm.config import ModelConfig
from keraslm.config.shapes import weight_shapes
from keraslm.network.losses import SequenceLoss
from keraslm.network.losses import token_nats as token_nats_of
from keraslm.network.metrics import Perplexity
from keraslm.network.model import build_model, nats_model, reset_states, stateful_layers
from tests.reference.language_model import language_model, token_nats
from tests.support.stateful import to_numpy

CONFIG = ModelConfig(
    num_layers=2,
    units=6,
    embedding_dim=5,
    embedding_dropout=0.1,
    recurrent_dropout=0.2,
    output_dropout=0.3,
    forget_bias=0.5,
    init_scale=0.25,
)
V, B = 11, 3


def weights_of(model):
    return {v.path: to_numpy(v) for v in model.trainable_variables}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (CONFIG, "ids embedding embedding_dropout lstm_0 output_dropout_0 lstm_1 output_dropout_1 logits"),
        (ModelConfig(units=6), "ids embedding lstm_0 lstm_1 logits"),
    ],
    ids=["dropout", "no dropout"],
)
def test_layers_have_the_order_of_the_paper(config, names):
    assert [layer.name for layer in build_model(config, V, B).layers] == names.split()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layer_units": (6, 8, 4), "embedding_dim": None},
        {"cell": "gru", "forget_bias": 0.0},
        {"cell": "rnn", "forget_bias": 0.0},
        {"mogrifier_rounds": 3},
        {"input_gate": "capped", "skip_connections": True},
        {"input_gate": "tied", "num_layers": 3, "skip_connections": True},
        {"num_layers": 1, "skip_connections": True},
    ],
    ids=str,
)
def test_network_equals_numpy(changes):
    model = build_model(replace(CONFIG, **changes), V, B, seed=1)
    ids = np.random.default_rng(0).integers(0, V, (B, 7))
    own = {name: changes[name] for name in ("input_gate", "skip_connections") if name in changes}
    logits, states = language_model(weights_of(model), ids, **own)
    np.testing.assert_allclose(model.predict_on_batch(ids.astype(np.int32)), logits, atol=1e-5)
    for layer, state in zip(stateful_layers(model), states, strict=True):
        for variable, expected in zip(layer.state_variables, state, strict=True):
            np.testing.assert_allclose(to_numpy(variable), expected, atol=1e-5)


def test_reset_states_zeroes_every_layer():
    model = build_model(CONFIG, V, B)
    model.predict_on_batch(np.zeros((B, 4), np.int32))
    states = [state for layer in stateful_layers(model) for state in (layer.h, layer.c)]
    assert len(states) == 4 and all(np.abs(to_numpy(state)).max() > 0 for state in states)
    reset_states(model)
    assert all(np.abs(to_numpy(state)).max() == 0 for state in states)


# The model for training

IDS = np.random.default_rng(1).integers(0, V, (B, 9)).astype(np.int32)


def test_nats_model_returns_the_cross_entropy_and_carries_the_state():
    model = build_model(CONFIG, V, B, seed=1)
    trained = nats_model(model)
    logits, _ = language_model(weights_of(model), IDS[:, :-1])
    parts = [
        trained.predict_on_batch([IDS[:, a:b], IDS[:, a + 1 : b + 1]]) for a, b in itertools.pairwise([0, 3, 4, 8])
    ]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), token_nats(IDS[:, 1:], logits), rtol=1e-5, atol=1e-5)


def test_nats_model_has_the_same_variables_and_no_logits():
    model = build_model(CONFIG, V, B)
    trained = nats_model(model)
    assert [v.path for v in trained.trainable_variables] == [v.path for v in model.trainable_variables]
    assert {id(v) for v in trained.variables} == {id(v) for v in model.variables}
    assert trained.output_shape == (B, None)


def test_training_on_nats_equals_training_on_logits():
    """The same model is trained with the same loss and ordinary Keras metrics."""
    found = []
    for wrap in (nats_model, lambda model: model):
        model = build_model(ModelConfig(units=6, embedding_dim=5, init_scale=0.5), V, B, seed=2)
        trained = wrap(model)
        mean = keras.metrics.MeanMetricWrapper(lambda y, p: keras.ops.mean(token_nats_of(y, p), -1), name="mean")
        trained.compile(keras.optimizers.SGD(1.0), SequenceLoss(), metrics=[Perplexity(), mean])
        inputs = [IDS[:, :-1], IDS[:, 1:]] if trained is not model else IDS[:, :-1]
        history = trained.fit(inputs, IDS[:, 1:], batch_size=B, epochs=2, shuffle=False, verbose=0).history
        found.append((history, weights_of(model)))
    (one, weights), (other, other_weights) = found
    assert one.keys() == other.keys() == {"loss", "perplexity", "mean"}
    for name in one:
        assert one[name] == pytest.approx(other[name], rel=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(value, other_weights[name], atol=1e-5)


def test_each_layer_has_its_dropout_rate():
    rates = {"embedding_row_dropout": 0.1, "dropconnect": 0.5, "last_dropout": 0.4, "locked_dropout": True}
    model = build_model(replace(CONFIG, **rates), V, B)
    assert model.get_layer("embedding").row_dropout == 0.1
    assert [(layer.dropconnect, layer.recurrent_dropout) for layer in stateful_layers(model)] == [(0.5, 0.2)] * 2
    between = [model.get_layer(name) for name in ("embedding_dropout", "output_dropout_0", "output_dropout_1")]
    assert [layer.rate for layer in between] == [0.1, 0.3, 0.4]
    assert all(layer.locked for layer in between)
    only_last = build_model(replace(CONFIG, output_dropout=0.0, last_dropout=0.4), V, B)
    assert [layer.name for layer in only_last.layers if layer.name.startswith("output")] == ["output_dropout_1"]


def mask_of(layer, seed):
    """The mask that a dropout layer of a model draws first, of shape (B, 6, 50)."""
    ones = np.ones((B, 6, 50), np.float32)
    return to_numpy(build_model(CONFIG, V, B, seed).get_layer(layer)(ones, training=True)) == 0


def test_masks_depend_on_the_seed_and_the_layer():
    one = mask_of("output_dropout_0", 1)
    np.testing.assert_array_equal(one, mask_of("output_dropout_0", 1))
    for other in (mask_of("output_dropout_0", 2), mask_of("output_dropout_1", 1)):
        assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ModelConfig(), 4_651_600),  # Zaremba et al., small
        # 24,221,600 in the program of Merity et al., whose LSTMs have two biases.
        (ModelConfig(layer_units=(1150, 1150, 400), tie_weights=True), 24_221_600 - 4 * (1150 + 1150 + 400)),
    ],
    ids=["small", "awd"],
)
def test_recipes_have_the_published_number_of_parameters(config, expected):
    assert sum(map(np.prod, weight_shapes(config, 10_000).values())) == expected


def test_the_embedding_table_has_its_own_initial_scale():
    values = weights_of(build_model(replace(CONFIG, embedding_init_scale=0.01), V, B, seed=7))
    assert 0.008 < np.abs(values["embedding/embeddings"]).max() <= 0.01
    assert np.abs(values["lstm_0/kernel"]).max() > 0.2


def test_initial_weights_are_drawn_by_numpy_on_every_backend():
    values = weights_of(build_model(CONFIG, V, B, seed=7))
    drawn = [name for name in values if not name.endswith("bias")]
    assert len(drawn) == 6
    for name in drawn:
        draw = np.random.default_rng([7, zlib.crc32(name.encode())]).uniform(-0.25, 0.25, values[name].shape)
        np.testing.assert_array_equal(values[name], draw.astype(np.float32))


def test_seeds_and_weights_are_independent():
    one, same, other = (weights_of(build_model(CONFIG, V, B, seed)) for seed in (1, 1, 2))
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        assert name.endswith("bias") or not np.array_equal(one[name], other[name])
    assert not np.array_equal(one["lstm_0/recurrent_kernel"], one["lstm_1/recurrent_kernel"])


def test_biases_start_at_zero_except_that_of_the_forget_gate():
    values = weights_of(build_model(CONFIG, V, B))
    np.testing.assert_array_equal(values["logits/bias"], np.zeros(V))
    for number in (0, 1):
        np.testing.assert_array_equal(values[f"lstm_{number}/bias"], np.repeat([0, 0.5, 0, 0], 6))
    plain = build_model(ModelConfig(units=6), V, B)
    assert all(np.abs(value).max() == 0 for name, value in weights_of(plain).items() if name.endswith("bias"))
