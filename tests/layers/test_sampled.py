import math

import keras
import numpy as np
import pytest
from keras import ops

from keraslm.config import ModelConfig
from keraslm.layers.sampled import DRAWS, SampledSoftmax
from keraslm.network.losses import SequenceLoss
from keraslm.network.model import build_model, nats_model
from keraslm.optimizers.clipped import ClippedSGD
from tests.reference.differences import central_differences
from tests.support.gradients import gradients, tensor

B, T, H, V = 2, 3, 4, 50
random = np.random.default_rng(2)
HIDDEN, KERNEL, BIAS = (random.normal(size=shape).astype(np.float32) for shape in [(B, T, H), (V, H), (V,)])
TARGETS = random.integers(0, V, (B, T)).astype(np.int32)
NEGATIVES = np.array([0, 0, 1, 3, 49, TARGETS[0, 0]], np.int32)


def layer_of(negatives=6, seed=1):
    layer = SampledSoftmax(V, negatives, seed=seed)
    layer.build((B, T, H))
    layer.kernel.assign(KERNEL)
    layer.bias.assign(BIAS)
    return layer


def formula(hidden, kernel, bias):
    """The estimate in float64, one token at a time."""
    expected = lambda k: len(NEGATIVES) * math.log((k + 2) / (k + 1)) / math.log(V + 1)  # noqa: E731
    score = lambda h, k: h @ kernel[k] + bias[k]  # noqa: E731
    nats = np.zeros((B, T))
    for place in np.ndindex(B, T):
        h, target = hidden[place], TARGETS[place]
        others = [score(h, k) - math.log(expected(k)) for k in NEGATIVES if k != target]
        true = score(h, target)
        nats[place] = np.logaddexp.reduce([true, *others]) - true
    return nats


def test_the_estimate_is_that_of_the_formula():
    found = layer_of().estimated_nats(tensor(HIDDEN), tensor(TARGETS), tensor(NEGATIVES))
    wide = (a.astype(np.float64) for a in (HIDDEN, KERNEL, BIAS))
    np.testing.assert_allclose(ops.convert_to_numpy(found), formula(*wide), rtol=1e-5)


def test_gradients_of_hidden_states_equal_finite_differences():
    layer = layer_of()
    loss = lambda hidden: ops.sum(layer.estimated_nats(hidden, tensor(TARGETS), tensor(NEGATIVES)))  # noqa: E731
    (found,) = gradients(loss, [tensor(HIDDEN)])
    arrays = [a.astype(np.float64) for a in (HIDDEN, KERNEL, BIAS)]
    (expected,) = central_differences(lambda: formula(*arrays).sum(), arrays[:1])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_draws_are_log_uniform():
    drawn = ops.convert_to_numpy(layer_of(negatives=200_000).draw())
    assert drawn.dtype == np.int32 and drawn.min() == 0 and drawn.max() == V - 1
    ranks = np.arange(V)
    expected = np.log((ranks + 2) / (ranks + 1)) / math.log(V + 1)
    found = np.bincount(drawn, minlength=V) / len(drawn)
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(expected.max() / len(drawn)))


def probabilities(vocab_size):
    ranks = np.arange(vocab_size, dtype=np.float64)
    return np.log1p(1 / (ranks + 1)) / math.log(vocab_size + 1)


@pytest.mark.parametrize("vocab_size", [1, 2, 5000, 1_000_000])
def test_the_frequency_of_each_id_is_its_probability(vocab_size):
    """Pearson's statistic over all ids, and the sum over each tenth of them, within five standard deviations."""
    draws = 4_000_000
    drawn = ops.convert_to_numpy(SampledSoftmax(vocab_size, draws, seed=1).draw())
    found, expected = np.bincount(drawn, minlength=vocab_size), draws * probabilities(vocab_size)
    statistic = ((found - expected) ** 2 / expected).sum()
    spread = math.sqrt(2 * vocab_size + (1 / expected).sum())
    assert abs(statistic - (vocab_size - 1)) <= 5 * spread * (vocab_size > 1)
    for tenth in np.array_split(np.arange(vocab_size), 10):
        total = expected[tenth].sum()
        assert abs(found[tenth].sum() - total) <= 5 * math.sqrt(total)


def test_every_id_of_ten_million_has_its_share_of_the_random_numbers():
    vocab_size = 10_000_000
    layer = SampledSoftmax(vocab_size, 1)
    ends, first, width, logarithms = (table.astype(np.float64) for table in layer.cells)
    np.testing.assert_allclose(ends, np.log(first + width) / math.log(vocab_size + 1) * DRAWS, atol=0.5)
    rank = np.concatenate([np.arange(1, 100_001), np.arange(vocab_size - 1_000_000, vocab_size) + 1])  # of each id
    cell = np.searchsorted(first, rank, side="right") - 1
    for inside in (0.005, 0.5, 0.995):  # of the interval of an id, from its lower to its upper end
        share = np.log((rank + inside) / first[cell]) / logarithms[cell]
        numbers = np.stack([ends[cell] - 1, np.round(share * DRAWS)]).astype(np.int32)
        np.testing.assert_array_equal(ops.convert_to_numpy(layer.ids_of(tensor(numbers))), rank - 1)


@pytest.mark.parametrize("vocab_size", [1, 4095, 4097, 20_000, 10_000_000])
def test_the_extreme_random_numbers_give_the_first_and_the_last_id(vocab_size):
    numbers = np.array([[0, DRAWS - 1], [0, DRAWS - 1]], np.int32)
    found = ops.convert_to_numpy(SampledSoftmax(vocab_size, 1).ids_of(tensor(numbers)))
    np.testing.assert_array_equal(found, [0, vocab_size - 1])


def test_one_seed_gives_one_sequence_of_draws():
    one, other = layer_of(seed=4), layer_of(seed=4)
    first, second = (ops.convert_to_numpy(one.draw()) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(ops.convert_to_numpy(other.draw()), first)


def test_evaluation_is_the_full_softmax():
    layer = layer_of()
    logits = HIDDEN.astype(np.float64) @ KERNEL.T + BIAS
    expected = np.logaddexp.reduce(logits, axis=-1) - np.take_along_axis(logits, TARGETS[..., None], -1)[..., 0]
    np.testing.assert_allclose(ops.convert_to_numpy(layer.nats(tensor(HIDDEN), tensor(TARGETS))), expected, rtol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(tensor(HIDDEN))), logits, rtol=1e-5, atol=1e-5)


def test_many_negatives_approach_the_full_softmax():
    layer = layer_of(negatives=200_000)
    estimate, exact = (
        ops.convert_to_numpy(layer.nats(tensor(HIDDEN), tensor(TARGETS), training=training))
        for training in (True, False)
    )
    np.testing.assert_allclose(estimate, exact, rtol=0.03)


def test_initial_weights_are_those_of_the_full_softmax():
    full, sampled = (build_model(ModelConfig(units=4, softmax=kind), 30, 2, seed=3) for kind in ("full", "sampled"))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(full.get_layer("logits").kernel),
        ops.convert_to_numpy(sampled.get_layer("logits").kernel).T,
    )


def trained(optimizer, sparse, epochs):
    config = ModelConfig(num_layers=1, units=16, softmax="sampled", num_sampled=30)
    network = build_model(config, vocab_size=40, batch_size=4)
    model = nats_model(network)
    network.get_layer("embedding").sparse_gradient = sparse
    network.get_layer("logits").sparse_gradient = sparse
    model.compile(optimizer, SequenceLoss())
    stream = np.tile(np.arange(40, dtype=np.int32), 8).reshape(4, -1)
    inputs, targets = stream[:, :-1], stream[:, 1:]
    history = model.fit([inputs, targets], targets, batch_size=4, epochs=epochs, shuffle=False, verbose=0).history
    return history["loss"], model.evaluate([inputs, targets], targets, batch_size=4, verbose=0)


def test_a_model_learns_through_fit_and_its_sparse_gradients_are_those_of_keras():
    losses, exact = trained(ClippedSGD(1.0, 5.0), sparse=True, epochs=60)
    assert losses[-1] < 0.4 * losses[0] and exact < 0.4 * losses[0]
    dense, _ = trained(keras.optimizers.SGD(1.0, global_clipnorm=5.0), sparse=False, epochs=3)
    np.testing.assert_allclose(losses[:3], dense, rtol=1e-3)
