"""Tied softmaxes and mixtures, alone and in a network, compared with NumPy."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
from keras import ops

from keraslm.config import ModelConfig
from keraslm.layers import kernels
from keraslm.layers.embedding import Embedding
from keraslm.layers.mixture import MixtureOfSoftmaxes
from keraslm.layers.projection import TiedSoftmax
from keraslm.network.losses import SequenceLoss
from keraslm.network.model import build_model, nats_model, reset_states
from keraslm.optimizers.clipped import ClippedSGD
from keraslm.text.stream import Windows
from keraslm.training.dataset import BatchDataset
from keraslm.training.variables import training_variables
from tests.reference.differences import central_differences
from tests.reference.language_model import language_model, projection, token_nats
from tests.support.gradients import tensor

B, T, H, E, V, K = 3, 4, 5, 4, 11, 3
KINDS = {
    "tied": {"tie_weights": True, "layer_units": (5, 4)},
    "mixture": {"softmax": "mixture"},
    "tied mixture": {"softmax": "mixture", "tie_weights": True},
}
CONFIG = ModelConfig(num_layers=1, units=H, embedding_dim=E, num_experts=K, init_scale=0.8)
random = np.random.default_rng(4)
IDS = random.integers(0, V, (B, T + 1)).astype(np.int32)
INPUTS = [IDS[:, :-1], IDS[:, 1:]]


@pytest.fixture(params=KINDS)
def config(request):
    return replace(CONFIG, **KINDS[request.param])


def weights_of(model):
    return {v.path: ops.convert_to_numpy(v).astype(np.float64) for v in model.trainable_variables}


@pytest.mark.parametrize("budget", [None, 4 * V * 4], ids=["complete", "pieces"])
def test_logits_and_nats_are_those_of_the_formula(config, budget, monkeypatch):
    if budget:
        monkeypatch.setattr(kernels, "BUDGET", budget)
    model = build_model(config, V, B, seed=1)
    logits, _ = language_model(weights_of(model), INPUTS[0])
    np.testing.assert_allclose(model.predict_on_batch(INPUTS[0]), logits, atol=1e-5)
    reset_states(model)
    np.testing.assert_allclose(
        nats_model(model).predict_on_batch(INPUTS), token_nats(INPUTS[1], logits), rtol=1e-5, atol=1e-6
    )


def differences(weights, step=1e-5):
    """The gradient of the loss by every weight, by finite differences of the formula."""

    def loss():
        return token_nats(INPUTS[1], language_model(weights, INPUTS[0])[0]).sum() / B

    return dict(zip(weights, central_differences(loss, list(weights.values()), step), strict=True))


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
@pytest.mark.parametrize("budget", [None, 4 * V * 4], ids=["complete", "pieces"])
def test_a_step_follows_the_gradient_of_the_formula(config, sparse, budget, monkeypatch):
    """The gradient of a tied table is the sum of those of the embedding and of the softmax."""
    if budget:
        monkeypatch.setattr(kernels, "BUDGET", budget)
    network = build_model(config, V, B, seed=1)
    model = nats_model(network)
    network.get_layer("embedding").sparse_gradient = sparse
    model.compile(ClippedSGD(1.0, clip_norm=None), SequenceLoss())
    before = weights_of(model)
    expected = differences({name: value.copy() for name, value in before.items()})
    model.fit(INPUTS, INPUTS[1], batch_size=B, epochs=1, verbose=0)
    after = weights_of(model)
    for name, gradient in expected.items():
        np.testing.assert_allclose(before[name] - after[name], gradient, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("kind", [*KINDS, "adaptive"])
def test_a_model_learns_through_fit(kind):
    fields = {"layer_units": None, "units": 32, "embedding_dim": 32, "init_scale": 0.1, "embedding_row_dropout": 0.05}
    fields |= {"dropconnect": 0.1, "locked_dropout": True, "output_dropout": 0.1}
    config = replace(CONFIG, **KINDS.get(kind, {"softmax": "adaptive", "cutoffs": (10, 20)}) | fields)
    model = nats_model(build_model(config, vocab_size=40, batch_size=4))
    model.compile(ClippedSGD(1.0, 5.0), SequenceLoss())
    stream = np.tile(np.arange(40, dtype=np.int32), 8).reshape(4, -1)  # each id is followed by the next one
    inputs, targets = stream[:, :-1], stream[:, 1:]
    epochs = 100 if kind == "adaptive" else 60
    history = model.fit([inputs, targets], targets, batch_size=4, epochs=epochs, shuffle=False, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


@pytest.mark.parametrize("kind", ["full", "adaptive", *KINDS])
def test_the_rows_of_a_window_are_counted_in_fit(kind, backend, monkeypatch):
    """The number of pieces depends on them; in a graph of TensorFlow they are not in a single shape."""
    if kind == "adaptive" and backend != "tensorflow":
        pytest.skip("its pieces are those of its clusters' own tokens")
    counted, kernel = [], importlib.import_module(f"keraslm.layers.kernels.softmax_{backend}")
    monkeypatch.setattr(kernel, "rows_per_piece", lambda rows, *sizes: counted.append(rows) or rows)
    config = replace(CONFIG, **KINDS.get(kind, {"softmax": kind, "cutoffs": (4,) if kind == "adaptive" else None}))
    model = nats_model(build_model(config, V, B))
    model.compile(ClippedSGD(), SequenceLoss())
    model.fit(BatchDataset(Windows(np.arange(60) % V, B, T)), epochs=1, shuffle=False, verbose=0)
    assert counted[-1] == B * T * (K if config.softmax == "mixture" else 1)


def test_every_variable_has_one_name(config):
    config = replace(config, embedding_row_dropout=0.1, embedding_dropout=0.1)
    config = replace(config, expert_dropout=0.1) if config.softmax == "mixture" else config
    model = nats_model(build_model(config, V, B))
    model.compile(ClippedSGD(), SequenceLoss())
    names = training_variables(model)
    assert len({id(variable) for variable in names.values()}) == len(names)
    assert {"model/embedding/embeddings", "model/embedding/seed_generator_state"} <= names.keys()
    assert ("model/cross_entropy/seed_generator_state" in names) == (config.softmax == "mixture")


def built_embedding():
    embedding = Embedding(V, E, name="embedding")
    embedding.build()
    return embedding


def tied_layer():
    layer = TiedSoftmax(built_embedding(), name="logits")
    layer.build((B, None, E))
    return layer


def test_the_tied_layer_owns_a_bias_and_uses_the_table():
    layer = tied_layer()
    assert [w.path for w in layer.trainable_weights] == ["logits/bias", "embedding/embeddings"]
    layer.bias.assign(random.normal(size=V))
    weights = {w.path: ops.convert_to_numpy(w) for w in layer.trainable_weights}
    hidden = random.normal(size=(B, T, E)).astype(np.float32)
    found = ops.convert_to_numpy(layer(tensor(hidden)))
    np.testing.assert_allclose(found, projection(weights, hidden), atol=1e-6)


def test_a_table_of_a_different_size_is_refused():
    with pytest.raises(ValueError, match=r"'logits' multiplies .* 'embedding', .* states have 5 and embeddings 4"):
        TiedSoftmax(built_embedding(), name="logits").build((B, None, 5))
    with pytest.raises(ValueError, match=r"hidden states have 5 and embeddings 4"):
        MixtureOfSoftmaxes(V, K, 5, built_embedding()).build((B, None, H))


def mixture_layer(seed=1, **options):
    layer = MixtureOfSoftmaxes(V, K, E, seed=seed, name="logits", **options)
    layer.build((B, None, H))
    for weight in layer.trainable_weights:
        weight.assign(np.random.default_rng(len(weight.path)).normal(size=weight.shape))
    return layer


HIDDEN = random.normal(size=(B, T, H)).astype(np.float32)


def test_one_expert_is_one_softmax_and_unlikely_words_stay_finite():
    layer = MixtureOfSoftmaxes(V, 1, E)
    layer.build((B, None, H))
    bias = np.zeros(V)
    bias[3] = -5000.0
    layer.bias.assign(bias)
    latents = np.tanh(HIDDEN @ ops.convert_to_numpy(layer.latent_kernel).astype(np.float64))
    logits = latents @ ops.convert_to_numpy(layer.kernel) + bias
    targets = np.full((B, T), 3, np.int32)
    found = ops.convert_to_numpy(layer.nats(tensor(HIDDEN), tensor(targets)))
    np.testing.assert_allclose(found, token_nats(targets, logits), rtol=1e-5)
    assert found.min() > 4900


def test_bfloat16_products_stay_near():
    exact, near = (
        ops.convert_to_numpy(mixture_layer().nats(tensor(HIDDEN), tensor(INPUTS[1]), product_dtype=dtype))
        for dtype in ("float32", "bfloat16")
    )
    assert near.dtype == np.float32
    assert 1e-5 < np.abs(near - exact).max() < 0.15


def experts(layer, steps=T, training=True):
    """Factors on the experts' hidden vectors, `(B, T, K * E)`."""
    hidden = np.repeat(HIDDEN[:, :1], steps, axis=1)
    dropped, complete = (
        ops.convert_to_numpy(layer._experts(tensor(hidden), "float32", on)[1]) for on in (training, False)
    )
    return (dropped / complete).reshape(B, steps, K * E)


def test_locked_expert_dropout_has_one_mask_per_window():
    layer = mixture_layer(dropout=0.25, locked=True)
    first, second = experts(layer), experts(layer)
    np.testing.assert_allclose(first, np.repeat(first[:, :1], T, axis=1), rtol=1e-4)
    assert len({np.round(mask, 2).tobytes() for mask in (*first[:, 0], *second[:, 0])}) == 2 * B
    assert set(np.round(first.ravel().astype(float), 3)) == {0.0, 1.333}


def test_expert_dropout_differs_by_step_keeps_the_mean_and_is_off_at_inference():
    layer = mixture_layer(dropout=0.25)
    found = experts(layer, steps=200)
    assert len({step.tobytes() for step in found[0]}) > 150
    assert abs(found.mean() - 1) < 5 * np.sqrt(0.25 / 0.75 / found.size)
    np.testing.assert_allclose(experts(layer, training=False), 1)
