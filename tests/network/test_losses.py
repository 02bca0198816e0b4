import keras
import numpy as np
import pytest

from keraslm.network.losses import SequenceLoss, sequence_loss
from keraslm.network.metrics import Perplexity
from tests.reference.language_model import token_nats
from tests.support.stateful import to_numpy

B, T, V = 3, 4, 7
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(B, T, V), scale=2).astype(np.float32)
TARGETS = RANDOM.integers(0, V, (B, T)).astype(np.int32)
WEIGHTS = RANDOM.uniform(size=(B, T)).astype(np.float32)
SWITCHES = [(True, True), (True, False), (False, True), (False, False)]


def by_hand(weights, over_steps, over_batch):
    """The definition: each average divides by the sum of the weights in it."""
    weighted = token_nats(TARGETS, LOGITS) * weights
    if over_steps and over_batch:
        return weighted.sum() / weights.sum()
    if over_steps:
        return weighted.sum(axis=1) / weights.sum(axis=1)
    if over_batch:
        return weighted.sum(axis=0) / weights.sum(axis=0)
    return weighted


@pytest.mark.parametrize(("over_steps", "over_batch"), SWITCHES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_sequence_loss_equals_its_definition(weights, over_steps, over_batch):
    found = to_numpy(sequence_loss(TARGETS, LOGITS, weights, over_steps, over_batch))
    expected = by_hand(np.ones((B, T)) if weights is None else weights, over_steps, over_batch)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("over_steps", "over_batch"), SWITCHES)
def test_nats_have_the_same_loss_as_their_logits(over_steps, over_batch):
    nats = token_nats(TARGETS, LOGITS).astype(np.float32)
    found, expected = (SequenceLoss(over_steps, over_batch)(TARGETS, value, WEIGHTS) for value in (nats, LOGITS))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_sequence_loss_averages_over_both_by_default():
    np.testing.assert_allclose(to_numpy(sequence_loss(TARGETS, LOGITS)), token_nats(TARGETS, LOGITS).mean(), rtol=1e-5)


def test_a_step_without_weight_has_no_loss():
    weights = WEIGHTS.copy()
    weights[:, 1] = 0
    found = to_numpy(sequence_loss(TARGETS, LOGITS, weights, False, True))
    assert found[1] == 0 and (found[[0, 2, 3]] > 0).all()


def logit_table():
    """A model whose logits are LOGITS: each token looks up a row of its only weight."""
    ids = keras.Input(batch_shape=(B, T), dtype="int32")
    table = keras.layers.Embedding(B * T, V)
    model = keras.Model(ids, table(ids))
    table.embeddings.assign(LOGITS.reshape(B * T, V))
    return model, np.arange(B * T, dtype=np.int32).reshape(B, T)


@pytest.mark.parametrize(("over_steps", "over_batch"), SWITCHES)
@pytest.mark.parametrize("call", ["test_on_batch", "train_on_batch"])
def test_compiled_loss_is_the_sum_over_the_axes_without_average(call, over_steps, over_batch):
    model, ids = logit_table()
    model.compile("sgd", SequenceLoss(over_steps, over_batch))
    found = getattr(model, call)(ids, TARGETS, sample_weight=WEIGHTS)
    assert float(np.ravel(found)[0]) == pytest.approx(by_hand(WEIGHTS, over_steps, over_batch).sum(), rel=1e-5)


def test_a_step_of_sgd_follows_the_gradient_of_the_summed_scale():
    model, ids = logit_table()
    model.compile(keras.optimizers.SGD(0.1), SequenceLoss())
    model.train_on_batch(ids, TARGETS)
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
    gradient = (probabilities - np.eye(V)[TARGETS]) / B  # averaged over rows, summed over steps
    np.testing.assert_allclose(
        to_numpy(model.trainable_variables[0]), (LOGITS - 0.1 * gradient).reshape(B * T, V), atol=1e-5
    )


# Perplexity

NATS = token_nats(TARGETS, LOGITS)
MEAN, WEIGHTED = np.exp(NATS.mean()), np.exp((NATS * WEIGHTS).sum() / WEIGHTS.sum())


@pytest.mark.parametrize(("weights", "expected"), [(None, MEAN), (WEIGHTS, WEIGHTED)], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("predictions", [LOGITS, NATS.astype(np.float32)], ids=["logits", "nats"])
def test_perplexity_is_exp_of_the_mean_over_all_tokens(predictions, weights, expected):
    metric = Perplexity()
    metric.update_state(TARGETS[1:], predictions[::-1][:-1])
    metric.reset_state()  # forgets the batch above
    for row in range(B):
        metric.update_state(TARGETS[row, None], predictions[row, None], None if weights is None else weights[row, None])
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_a_compiled_perplexity_sees_sample_weights_only_as_a_weighted_metric():
    model, ids = logit_table()
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[Perplexity(name="plain")],
        weighted_metrics=[Perplexity(name="weighted")],
    )
    found = model.evaluate(ids, TARGETS, sample_weight=WEIGHTS, batch_size=B, verbose=0, return_dict=True)
    assert (found["plain"], found["weighted"]) == pytest.approx((MEAN, WEIGHTED), rel=1e-5)
