"""Fields of the configuration reach the layers and the optimizer."""

import keras
import numpy as np
import pytest

from keraslm.config.shapes import weight_shapes
from keraslm.layers.activation_regularization import ActivationRegularization
from keraslm.network.compile import compiled_model
from keraslm.network.model import build_model, nats_model, reset_states
from tests.reference import updates
from tests.reference.language_model import token_nats
from tests.support.gradients import tensor
from tests.support.stateful import to_numpy

V = 9
IDS, TARGETS = (np.random.default_rng(seed).integers(0, V, (4, 5)).astype(np.int32) for seed in (1, 2))


def in_training(model, *layers):
    """Outputs of layers and of the model from one call in training, with the same dropout masks."""
    probe = keras.Model(model.inputs, [*(model.get_layer(name).output for name in layers), *model.outputs])
    return [to_numpy(output).astype(np.float64) for output in probe([tensor(IDS), tensor(TARGETS)], training=True)]


def test_activations_are_regularized_after_dropout_and_their_changes_before(config):
    sizes = {"layer_units": (7, 6), "output_dropout": 0.1, "last_dropout": 0.5, "locked_dropout": True}
    factors = {"activation_regularization": 2.0, "temporal_regularization": 0.5, "average_across_timesteps": True}
    model = compiled_model(config.replace(**sizes, **factors), V)
    raw, dropped, nats = in_training(model, "lstm_1", "output_dropout_1")
    assert 0.2 < np.mean(dropped == 0) < 0.8 and raw.all() and raw.shape == (4, 5, 6)
    expected = 2.0 * np.mean(dropped**2) + 0.5 * np.mean((raw[:, 1:] - raw[:, :-1]) ** 2)
    (layer,) = (layer for layer in model.layers if isinstance(layer, ActivationRegularization))
    assert float(to_numpy(layer.losses[-1])) == pytest.approx(expected, rel=1e-5)
    weights = {v.path: to_numpy(v).astype(np.float64) for v in model.trainable_variables}
    np.testing.assert_allclose(
        nats, token_nats(TARGETS, dropped @ weights["logits/kernel"] + weights["logits/bias"]), rtol=1e-4
    )


def test_a_tied_softmax_uses_the_rows_that_the_embedding_drops(config):
    tied = {"tie_weights": True, "embedding_row_dropout": 0.5, "embedding_dim": 6}
    none = dict.fromkeys(("embedding_dropout", "recurrent_dropout", "output_dropout"), 0)
    model = nats_model(build_model(config.replace(**tied, **none).model, V, 4))
    embedded, hidden, nats = in_training(model, "embedding", "lstm_1")
    weights = {v.path: to_numpy(v).astype(np.float64) for v in model.trainable_variables}
    table = weights["embedding/embeddings"]
    dropped = ~embedded.any(-1)
    assert 0 < dropped.sum() < dropped.size and set(IDS[dropped]) & set(TARGETS.ravel())
    np.testing.assert_allclose(nats, token_nats(TARGETS, hidden @ table.T + weights["logits/bias"]), rtol=1e-4)


def test_experts_have_dropout_in_training_only(config):
    none = dict.fromkeys(("embedding_dropout", "recurrent_dropout", "output_dropout"), 0)
    found = {}
    for rate in (0.0, 0.5):
        changed = config.replace(softmax="mixture", num_experts=2, expert_dropout=rate, **none)
        model = nats_model(build_model(changed.model, V, 4))
        inputs = [tensor(IDS), tensor(TARGETS)]
        for training in (False, True):
            reset_states(model)
            found[rate, training] = to_numpy(model(inputs, training=training))
    np.testing.assert_allclose(found[0.0, True], found[0.0, False], rtol=1e-5)
    np.testing.assert_allclose(found[0.5, False], found[0.0, False], rtol=1e-5)
    assert np.abs(found[0.5, True] - found[0.5, False]).max() > 1e-3


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_update_uses_every_field_of_the_configuration(config, optimizer, clip_norm):
    fields = {"learning_rate": 0.3, "weight_decay": 0.2, "beta_1": 0.6, "beta_2": 0.7, "clip_norm": clip_norm}
    model = compiled_model(config.replace(optimizer=optimizer, **fields), V)
    variables = model.trainable_variables
    weights, random = [to_numpy(v) for v in variables], np.random.default_rng(3)
    gradients = [[random.normal(size=w.shape).astype(np.float32) for w in weights] for _ in range(2)]
    for step in gradients:
        model.optimizer.apply([tensor(g) for g in step], variables)
    own = (0.6, 0.7) if optimizer == "adamw" else ()
    expected = getattr(updates, optimizer)(weights, gradients, [0.3] * 2, clip_norm, 0.2, *own)[-1]
    for variable, wanted in zip(variables, expected, strict=True):
        np.testing.assert_allclose(to_numpy(variable), wanted, rtol=1e-4, atol=1e-6)


FROZEN = [
    (("embedding",), {}),
    (("lstm_0", "logits/kernel"), {}),
    (("embedding",), {"tie_weights": True, "embedding_dim": 6}),
    (("lstm_1", "embedding"), {"softmax": "sampled", "num_sampled": 20}),
    (("gru_0",), {"cell": "gru", "softmax": "mixture", "num_experts": 2}),
    (("lstm_1", "logits"), {"softmax": "adaptive", "cutoffs": (3,)}),
]


def after_a_step(config):
    """The model, and its weights before and after a step without dropout."""
    model = compiled_model(config.replace(embedding_dropout=0, recurrent_dropout=0, output_dropout=0), V)
    names = [*weight_shapes(config.model, V)]
    weights = {v.path: v for v in model.weights}
    before = {name: to_numpy(weights[name]).copy() for name in names}
    if model.optimizer.averaging:
        model.optimizer.averages_from.assign(0)
    model.train_on_batch([IDS, TARGETS], TARGETS)
    return model, before, {name: to_numpy(weights[name]) for name in names}


@pytest.mark.parametrize(("frozen", "fields"), FROZEN, ids=lambda value: ",".join(value))
def test_frozen_weights_take_no_part_in_an_update(config, frozen, fields):
    """Neither in the decay nor in the norm: an update of the others by the formulas, with the gradients of a step."""
    config = config.replace(**fields)
    _, before, moved = after_a_step(config.replace(learning_rate=1.0, clip_norm=None))
    gradients = {name: before[name].astype(np.float64) - moved[name] for name in before}
    changes = {"learning_rate": 0.3, "weight_decay": 0.2, "clip_norm": 0.05, "nonmonotone_interval": 1}
    model, _, after = after_a_step(config.replace(freeze=frozen, **changes))
    trained = [name for name in before if name not in frozen and name.split("/")[0] not in frozen]
    assert 0 < len(trained) < len(before) and {v.path for v in model.trainable_variables} == set(trained)
    assert all(after[name].tobytes() == before[name].tobytes() for name in before if name not in trained)
    steps = [[gradients[name] for name in trained]]
    expected = updates.sgd([before[name] for name in trained], steps, [0.3], 0.05, 0.2)[-1]
    for name, wanted in zip(trained, expected, strict=True):
        np.testing.assert_allclose(after[name], wanted, rtol=1e-4, atol=1e-5, err_msg=name)
    assert float(model.optimizer.gradient_norm) == pytest.approx(updates.norm_of(steps[0]), rel=1e-4)
    assert model.optimizer.averaged().keys() == set(trained)


def test_adamw_moves_the_other_weights_as_without_frozen_ones(config):
    config = config.replace(optimizer="adamw", learning_rate=0.01, weight_decay=0.2, clip_norm=None)
    _, before, everything = after_a_step(config)
    model, _, after = after_a_step(config.replace(freeze=("embedding", "lstm_1")))
    for name, value in after.items():
        is_frozen = name.startswith(("embedding/", "lstm_1/"))
        np.testing.assert_allclose(value, (before if is_frozen else everything)[name], rtol=0, atol=1e-5, err_msg=name)
        assert (value.tobytes() == before[name].tobytes()) == is_frozen
    assert not [v.path for v in model.optimizer.variables if "embedding" in v.path]
