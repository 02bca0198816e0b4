import keras
import numpy as np
import pytest

from keraslm.network.metrics import Perplexity
from tests.reference.language_model import token_nats

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(2, 3, 4, 7)).astype(np.float32)  # two batches
TARGETS = RANDOM.integers(0, 7, (2, 3, 4)).astype(np.int32)
WEIGHTS = RANDOM.uniform(size=(2, 3, 4)).astype(np.float32)
NATS = token_nats(TARGETS, LOGITS)


def test_perplexity_is_exp_of_the_mean_over_all_tokens():
    metric = Perplexity()
    for targets, logits in zip(TARGETS, LOGITS, strict=True):
        metric.update_state(targets, logits)
    assert float(metric.result()) == pytest.approx(np.exp(NATS.mean()), rel=1e-5)


def test_perplexity_counts_each_token_with_its_weight():
    metric = Perplexity()
    for targets, logits, weights in zip(TARGETS, LOGITS, WEIGHTS, strict=True):
        metric.update_state(targets, logits, weights)
    assert float(metric.result()) == pytest.approx(np.exp((NATS * WEIGHTS).sum() / WEIGHTS.sum()), rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS[0]], ids=["unweighted", "weighted"])
def test_nats_give_the_same_as_the_logits_they_come_from(weights):
    of_logits, of_nats = Perplexity(), Perplexity()
    of_logits.update_state(TARGETS[0], LOGITS[0], weights)
    of_nats.update_state(TARGETS[0], NATS[0].astype(np.float32), weights)
    assert float(of_nats.result()) == pytest.approx(float(of_logits.result()), rel=1e-6)


def test_reset_forgets_what_was_seen():
    metric = Perplexity()
    metric.update_state(TARGETS[0], LOGITS[0])
    metric.reset_state()
    metric.update_state(TARGETS[1], LOGITS[1])
    assert float(metric.result()) == pytest.approx(np.exp(NATS[1].mean()), rel=1e-5)


def test_uniform_logits_over_100_words_give_100():
    metric = Perplexity()
    metric.update_state(np.zeros((2, 5), np.int32), np.zeros((2, 5, 100), np.float32))
    assert float(metric.result()) == pytest.approx(100, rel=1e-5)


def test_compiled_metric_sees_sample_weights_only_as_a_weighted_metric():
    ids = keras.Input(batch_shape=(3, 4), dtype="int32")
    table = keras.layers.Embedding(12, 7)
    model = keras.Model(ids, table(ids))
    table.embeddings.assign(LOGITS[0].reshape(12, 7))
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[Perplexity(name="plain")],
        weighted_metrics=[Perplexity(name="weighted")],
    )
    numbers = np.arange(12, dtype=np.int32).reshape(3, 4)
    found = model.evaluate(numbers, TARGETS[0], sample_weight=WEIGHTS[0], batch_size=3, verbose=0, return_dict=True)
    assert found["plain"] == pytest.approx(np.exp(NATS[0].mean()), rel=1e-5)
    assert found["weighted"] == pytest.approx(np.exp((NATS[0] * WEIGHTS[0]).sum() / WEIGHTS[0].sum()), rel=1e-5)
