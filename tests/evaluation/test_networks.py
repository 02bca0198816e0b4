"""Every test-time technique on every kind of network, compared with its formula over the outputs of the network.

All networks run on torch, which does not compile. The other backends would take minutes, so they run the most
complex one.
"""

import dataclasses

import numpy as np
import pytest

import keraslm
from keraslm.config.shapes import weight_shapes
from keraslm.evaluation.dynamic import DynamicModel, DynamicSettings, gradient_statistics
from keraslm.evaluation.ensemble import monte_carlo_nats
from keraslm.evaluation.neural_cache import cache_nats
from keraslm.evaluation.reader import Reader, load_model
from keraslm.evaluation.temperature import temperature_nats
from keraslm.system.backend import select_backend
from keraslm.testtime.settings import CacheSettings
from tests.reference import testtime as reference
from tests.reference.language_model import log_mean_exp
from tests.support.made_run import make_run
from tests.support.words import encode_text

NETWORKS = {
    "tied": {"tie_weights": True, "layer_units": (6, 4)},
    "mixture": {"softmax": "mixture", "num_experts": 3, "expert_dropout": 0.3, "embedding_dim": 3},
    "tied mixture": {"softmax": "mixture", "num_experts": 2, "tie_weights": True, "embedding_dim": 3},
    "adaptive": {"softmax": "adaptive", "cutoffs": (4,)},
    "sampled": {"softmax": "sampled", "num_sampled": 2},
    "gru": {"cell": "gru"},
    "rnn": {"cell": "rnn", "tie_weights": True},
    "mogrifier": {"mogrifier_rounds": 3, "mogrifier_rank": 2, "embedding_dim": 3},
    "capped skip": {"input_gate": "capped", "skip_connections": True},
    "tied gates": {"input_gate": "tied"},
    "sizes": {"layer_units": (7, 5, 3), "embedding_dim": 2},
}
if select_backend() != "torch":
    NETWORKS = {name: NETWORKS[name] for name in ("tied mixture",)}
DROPOUT = {
    "embedding_dropout": 0.3,
    "embedding_row_dropout": 0.3,
    "recurrent_dropout": 0.3,
    "dropconnect": 0.3,
    "output_dropout": 0.3,
    "locked_dropout": True,
}
NO_DROPOUT = {**dict.fromkeys(DROPOUT, 0.0), "expert_dropout": 0.0, "locked_dropout": False}
LINES = ["the cat sat on the mat", "a dog ran", "the dog sat on a cat"] * 3


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS.keys())
def run(request, tmp_path_factory):
    """Random weights, and a configuration with every dropout, which only Monte Carlo dropout may use."""
    folder = tmp_path_factory.mktemp("network")
    (folder / "text.txt").write_text("\n".join(LINES) + "\n")
    fields = {"units": 4, "num_layers": 2, "num_steps": 7, "train": str(folder / "text.txt"), **DROPOUT}
    return make_run(folder, **fields, **request.param)


@pytest.fixture(scope="module")
def ids(run):
    return encode_text(run.tokenizer, LINES)


@pytest.fixture(scope="module")
def outputs(run, ids):
    """Logits and hidden states of the text, in one call, and the costs."""
    import keras

    network = load_model(run)
    both = keras.Model(network.inputs, [network.outputs[0], network.get_layer("logits").input])
    inputs = np.concatenate([[run.tokenizer.eos_id], ids[:-1]]).astype(np.int32)
    logits, hidden = (np.asarray(found)[0] for found in both.predict_on_batch([inputs[None]]))
    return logits, hidden, reference.tempered_nats(ids, logits, 1.0)


@pytest.fixture(scope="module")
def text(run):
    return run.config.data.train[0]


def test_plain_cost(run, ids, text, outputs):
    np.testing.assert_allclose(Reader(run).nats(ids), outputs[2], rtol=1e-4)
    assert keraslm.evaluate(run, text).nats == pytest.approx(outputs[2].sum(), rel=1e-5)


def test_temperature(run, ids, outputs):
    expected = reference.tempered_nats(ids, outputs[0], 1.7)
    np.testing.assert_allclose(temperature_nats(Reader(run), ids, 1.7), expected, rtol=1e-4)


def test_neural_cache(run, ids, outputs):
    _, hidden, plain = outputs
    assert hidden.shape == (len(ids), run.config.model.sizes[-1])
    found = cache_nats(Reader(run), ids, CacheSettings(20, 1.5, 0.3))
    np.testing.assert_allclose(found, reference.cached_nats(ids, hidden, plain, 20, 1.5, 0.3), rtol=1e-4)


def test_monte_carlo(run, ids, outputs):
    found = [monte_carlo_nats(Reader(run), ids, 3, seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.isfinite(found).all() and np.abs(found[0] - found[2]).max() > 1e-3
    still = dataclasses.replace(run, config=run.config.replace(**NO_DROPOUT))
    np.testing.assert_allclose(monte_carlo_nats(Reader(still), ids, 3), outputs[2], rtol=1e-4)


def test_ensemble_with_a_network_of_a_different_size(run, ids, text, outputs, tmp_path):
    other = make_run(tmp_path, num_layers=1, units=5)
    found = keraslm.evaluate(run, text, with_runs=[other.path]).variants
    expected = -log_mean_exp(-np.stack([outputs[2], Reader(other).nats(ids)]))
    assert [v.name for v in found][-1] == "ensemble" and found[-1].nats == pytest.approx(expected.sum(), rel=1e-5)


def test_dynamic_evaluation(run, ids, outputs):
    settings = DynamicSettings(learning_rate=3e-3, decay=1e-3, epsilon=1e-3)
    statistics = gradient_statistics(run, ids, settings)
    shapes = weight_shapes(run.config.model, run.tokenizer.vocab_size)
    assert {name: value.shape for name, value in statistics.items()} == shapes  # with a tied table only once
    assert all(value.any() for value in statistics.values())
    model = DynamicModel(run, settings.segment)
    standing = dataclasses.replace(settings, learning_rate=0.0)
    np.testing.assert_allclose(model.nats(ids, standing, statistics), outputs[2], rtol=1e-4)
    repeated = model.nats(np.tile(ids, 12), settings, statistics).reshape(12, -1)
    assert repeated[-1].mean() < 0.98 * repeated[0].mean()


def test_neutral_settings_of_every_technique_have_the_plain_cost(run, text):
    requested = [
        {"temperature": 1.0, "neural_cache": True, "cache_theta": 0.3, "cache_lambda": 0.0},
        {"dynamic": True, "dynamic_lr": 0.0, "dynamic_decay": 0.0, "neural_cache": True}
        | {"cache_theta": 0.0, "cache_lambda": 0.0},
        {"with_runs": [run.path]},
    ]
    for techniques in requested:
        found = keraslm.evaluate(run, text, **techniques)
        assert len(found.variants) >= 2
        for variant in found.variants:
            assert variant.nats == pytest.approx(found.nats, rel=1e-5), variant.name
