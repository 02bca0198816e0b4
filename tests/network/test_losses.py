import keras
import numpy as np
import pytest

from keraslm.network.losses import Perplexity, SequenceLoss, sequence_loss
from tests.reference.language_model import token_nats

B, T, V = 3, 4, 7
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(B, T, V), scale=2).astype(np.float32)
TARGETS = RANDOM.integers(0, V, (B, T)).astype(np.int32)
WEIGHTS = RANDOM.uniform(size=(B, T)).astype(np.float32)
SWITCHES = [(True, True), (True, False), (False, True), (False, False)]


def by_hand(weights, over_steps, over_batch):
    """The definition, written out: what is averaged is divided by the weights that were summed with it."""
    weighted = token_nats(TARGETS, LOGITS) * weights
    if over_steps and over_batch:
        return weighted.sum() / weights.sum()
    if over_steps:
        return weighted.sum(axis=1) / weights.sum(axis=1)
    if over_batch:
        return weighted.sum(axis=0) / weights.sum(axis=0)
    return weighted


def to_numpy(value):
    return keras.ops.convert_to_numpy(value)


@pytest.mark.parametrize(("over_steps", "over_batch"), SWITCHES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_sequence_loss_equals_its_definition(weights, over_steps, over_batch):
    found = to_numpy(sequence_loss(TARGETS, LOGITS, weights, over_steps, over_batch))
    expected = by_hand(np.ones((B, T)) if weights is None else weights, over_steps, over_batch)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("over_steps", "over_batch"), SWITCHES)
def test_nats_give_the_same_as_the_logits_they_come_from(over_steps, over_batch):
    nats = token_nats(TARGETS, LOGITS).astype(np.float32)
    found, expected = (SequenceLoss(over_steps, over_batch)(TARGETS, value, WEIGHTS) for value in (nats, LOGITS))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_sequence_loss_averages_over_both_by_default():
    np.testing.assert_allclose(to_numpy(sequence_loss(TARGETS, LOGITS)), token_nats(TARGETS, LOGITS).mean(), rtol=1e-5)


def test_a_step_without_any_weight_costs_nothing():
    weights = WEIGHTS.copy()
    weights[:, 1] = 0
    found = to_numpy(sequence_loss(TARGETS, LOGITS, weights, False, True))
    assert found[1] == 0 and (found[[0, 2, 3]] > 0).all()


@pytest.mark.parametrize(("over_steps", "expected"), [(True, 4.605), (False, 92.1)])
def test_worked_example_uniform_logits_over_100_words(over_steps, expected):
    targets, logits = np.zeros((5, 20), np.int32), np.zeros((5, 20, 100), np.float32)
    assert float(SequenceLoss(over_steps)(targets, logits)) == pytest.approx(expected, rel=1e-4)


def logit_table():
    """A model whose logits at a token are a row of its only weight, so that they are known: LOGITS itself."""
    ids = keras.Input(batch_shape=(B, T), dtype="int32")
    table = keras.layers.Embedding(B * T, V)
    model = keras.Model(ids, table(ids))
    table.embeddings.assign(LOGITS.reshape(B * T, V))
    return model, np.arange(B * T, dtype=np.int32).reshape(B, T)


@pytest.mark.parametrize(("over_steps", "over_batch"), SWITCHES)
@pytest.mark.parametrize("call", ["test_on_batch", "train_on_batch"])
def test_compiled_loss_sums_what_the_averages_leave(call, over_steps, over_batch):
    model, ids = logit_table()
    model.compile("sgd", SequenceLoss(over_steps, over_batch))
    found = getattr(model, call)(ids, TARGETS, sample_weight=WEIGHTS)
    assert float(np.ravel(found)[0]) == pytest.approx(by_hand(WEIGHTS, over_steps, over_batch).sum(), rel=1e-5)


def test_compiled_loss_goes_through_evaluate_unweighted():
    model, ids = logit_table()
    model.compile("sgd", SequenceLoss())
    found = model.evaluate(ids, TARGETS, batch_size=B, verbose=0)
    assert found == pytest.approx(token_nats(TARGETS, LOGITS).sum() / B, rel=1e-5)


def test_a_step_of_sgd_follows_the_gradient_of_the_summed_scale():
    model, ids = logit_table()
    model.compile(keras.optimizers.SGD(0.1), SequenceLoss())
    model.train_on_batch(ids, TARGETS)
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
    gradient = (probabilities - np.eye(V)[TARGETS]) / B  # averaged over rows, summed over steps
    np.testing.assert_allclose(
        to_numpy(model.trainable_variables[0]), (LOGITS - 0.1 * gradient).reshape(B * T, V), atol=1e-5
    )


def test_a_configuration_gives_the_same_loss():
    loss = SequenceLoss(average_across_timesteps=True, average_across_batch=False, name="nats")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is SequenceLoss and again.get_config() == loss.get_config()


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


def test_perplexity_of_uniform_logits_over_100_words_is_100():
    metric = Perplexity()
    metric.update_state(np.zeros((2, 5), np.int32), np.zeros((2, 5, 100), np.float32))
    assert float(metric.result()) == pytest.approx(100, rel=1e-5)


def test_a_compiled_perplexity_sees_sample_weights_only_as_a_weighted_metric():
    model, ids = logit_table()
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[Perplexity(name="plain")],
        weighted_metrics=[Perplexity(name="weighted")],
    )
    found = model.evaluate(ids, TARGETS, sample_weight=WEIGHTS, batch_size=B, verbose=0, return_dict=True)
    assert (found["plain"], found["weighted"]) == pytest.approx((MEAN, WEIGHTED), rel=1e-5)
