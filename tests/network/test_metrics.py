"""The sums of an epoch are right for 1e10 tokens, inside the compiled training step of each backend."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keraslm.network.compile import compiled_model
from keraslm.network.losses import SequenceLoss
from keraslm.network.metrics import Mean, Perplexity
from keraslm.optimizers.clipped import ClippedSGD
from keraslm.training.callbacks import MetricsLog
from tests.support.stateful import to_numpy

B, T = 20, 35
RANDOM = np.random.default_rng(0)
NATS = RANDOM.gamma(2, 2.3, (300, B, T)).astype(np.float32)
# The first window stands for 7e9 tokens; in float32, the 700 tokens of each other window would become 512.
WEIGHTS = np.ones_like(NATS)
WEIGHTS[0] = 1e7


def exact_mean(nats, weights):
    return (nats.astype(np.float64) * weights).sum() / weights.sum(dtype=np.float64)


def identity_model():
    """A model that returns its input, the nats of each token; it has one weight, because a step needs a gradient."""
    nats = keras.Input((T,))
    bias = keras.layers.Dense(T, use_bias=False, kernel_initializer="zeros")(nats)
    return keras.Model(nats, nats + bias)


def compiled_in_both_ways():
    return [False, True] if keras.backend.backend() == "tensorflow" else ["auto"]


@pytest.mark.parametrize("jit", compiled_in_both_ways())
def test_the_perplexity_of_many_tokens_is_exact_in_fit_and_evaluate(jit):
    model = identity_model()
    model.compile(ClippedSGD(0.0), SequenceLoss(), weighted_metrics=[Perplexity()], jit_compile=jit)
    nats, weights = NATS.reshape(-1, T), WEIGHTS.reshape(-1, T)
    given = {"sample_weight": weights, "batch_size": B, "verbose": 0}
    (fitted,) = model.fit(nats, nats, shuffle=False, **given).history["perplexity"]
    _, evaluated = model.evaluate(nats, nats, **given)
    expected = math.exp(exact_mean(nats, weights))
    assert (fitted, evaluated) == pytest.approx((expected, expected), rel=5e-7)


@pytest.mark.parametrize("nats", [np.full((B, T), 4.6, np.float32), NATS[1]], ids=["constant", "random"])
def test_sums_of_1e10_tokens_are_right(nats):
    metric = Perplexity()
    weights = np.full((B, T), 98765.4, np.float32)
    for _ in range(150):
        metric.update_state(None, nats, weights)
    assert metric.mean() == pytest.approx(exact_mean(nats, weights), rel=1e-7)
    found = [sum(float(to_numpy(v)) for v in metric.variables[i : i + 2]) for i in (0, 2)]
    total = weights.sum(dtype=np.float64)
    assert found == pytest.approx([150 * (nats * weights.astype(float)).sum(), 150 * total], rel=1e-7)


def test_a_mean_of_many_small_values_does_not_stall():
    metric = Mean()
    metric.update_state(2.0, sample_weight=1e10)
    for _ in range(300):
        metric.update_state(1000.0, sample_weight=20)
    assert metric.mean() == pytest.approx((2e10 + 6e6) / (1e10 + 6000), rel=1e-12)


@pytest.mark.parametrize("last", [math.inf, math.nan])
def test_a_metric_that_is_not_finite_stays_so(last):
    metric = Perplexity()
    for value in (2.0, last, 2.0):
        metric.update_state(None, np.array([[1.0, value]], np.float32))
        found = float(metric.result()), metric.mean()
    np.testing.assert_array_equal(found, [last, last])


def test_an_empty_metric_is_that_of_keras():
    assert float(Mean().result()) == float(keras.metrics.Mean().result()) == 0.0
    assert math.isnan(Mean().mean())


@pytest.mark.parametrize("kind", [Mean, Perplexity])
def test_a_metric_is_the_same_after_serialization(kind):
    made = kind(name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(again) is kind and again.get_config() == made.get_config()


def test_the_loss_of_a_compiled_model_is_this_mean(config, corpus):
    model = compiled_model(config, corpus[0].vocab_size)
    assert type(model.metrics[0]) is Mean and [metric.name for metric in model.metrics].count("loss") == 1
    ids = RANDOM.integers(0, corpus[0].vocab_size, (4, 5)).astype(np.int32)
    reported = model.train_on_batch([ids, ids], ids)[0]
    assert model.metrics[0].mean() == pytest.approx(float(reported), rel=1e-7)


def test_rows_of_a_long_epoch_have_the_loss_of_their_own_windows(config):
    """In float32, the mean of 1e7 windows is too coarse for the 5 windows between two rows."""
    tracker, rows = Mean("loss"), []
    run = SimpleNamespace(config=config, append=rows.append)
    log = MetricsLog(run, 0, SimpleNamespace(rate=0.0))
    log.set_model(SimpleNamespace(metrics=[tracker], optimizer=SimpleNamespace(value_of=lambda name: 1.0)))
    log.on_epoch_begin(0)
    tracker.update_state(92.1, sample_weight=20 * 10_000_000)
    for batch in (9_999_999, 10_000_004, 10_000_009):
        log.on_train_batch_end(batch)
        tracker.update_state(80.0 + batch % 10, sample_weight=20 * 5)
    assert [row["loss"] for row in rows[1:]] == pytest.approx([89.0, 84.0], rel=1e-6)
