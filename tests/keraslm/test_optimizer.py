import keras
import numpy as np
import pytest

from keraslm.layers.embedding import Embedding
from keraslm.optimizer import ClippedSGD

SHAPES = [(7, 5), (5,), (3, 4, 2)]
STEPS = 4
random = np.random.default_rng(2)
WEIGHTS = [random.normal(size=shape).astype(np.float32) for shape in SHAPES]
GRADIENTS = [[random.normal(size=shape).astype(np.float32) for shape in SHAPES] for _ in range(STEPS)]
# The first step's norm is about 0.08, the last one's about 80: with 5 some are clipped and some are not.
GRADIENTS = [[10.0 ** (number - 2) * g for g in step] for number, step in enumerate(GRADIENTS)]


def variables():
    return [keras.Variable(w, name=f"w{number}") for number, w in enumerate(WEIGHTS)]


def after(optimizer, steps=GRADIENTS):
    own = variables()
    for gradients in steps:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], own)
    return [keras.ops.convert_to_numpy(v) for v in own]


def norm_of(gradients):
    return np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))


def numpy_after(clip_norm, learning_rate=0.3):
    weights = [w.astype(np.float64) for w in WEIGHTS]
    for gradients in GRADIENTS:
        factor = min(1.0, clip_norm / norm_of(gradients)) if clip_norm else 1.0
        weights = [w - learning_rate * factor * g for w, g in zip(weights, gradients, strict=True)]
    return weights


def assert_equal(found, expected):
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [5.0, 1e-3, None])
def test_updates_equal_numpy(clip_norm):
    assert_equal(after(ClippedSGD(0.3, clip_norm)), numpy_after(clip_norm))


@pytest.mark.parametrize("clip_norm", [5.0, None])
def test_updates_equal_those_of_keras(clip_norm):
    stock = keras.optimizers.SGD(0.3, global_clipnorm=clip_norm)
    assert_equal(after(ClippedSGD(0.3, clip_norm)), after(stock))


def test_the_learning_rate_can_be_assigned_and_can_be_a_schedule():
    optimizer = ClippedSGD(0.1)
    optimizer.learning_rate = 0.3
    assert_equal(after(optimizer), numpy_after(None))
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.3, 0.2, 0.1])
    assert_equal(after(ClippedSGD(schedule, 5.0)), after(keras.optimizers.SGD(schedule, global_clipnorm=5.0)))


def test_steps_are_counted():
    optimizer = ClippedSGD(0.3)
    after(optimizer)
    assert int(optimizer.iterations) == STEPS


@pytest.mark.parametrize("clip_norm", [5.0, None])
def test_the_norm_is_that_before_clipping(clip_norm):
    for steps in range(1, STEPS + 1):
        optimizer = ClippedSGD(0.3, clip_norm)
        after(optimizer, GRADIENTS[:steps])
        assert float(optimizer.gradient_norm) == pytest.approx(norm_of(GRADIENTS[steps - 1]), rel=1e-6)
        assert int(optimizer.finite_steps) == int(optimizer.iterations) == steps


@pytest.mark.parametrize("clip_norm", [5.0, None])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_count_and_norm_stand_still_from_the_first_gradient_that_is_not_finite(clip_norm, bad):
    broken = [g.copy() for g in GRADIENTS[2]]
    broken[1][3] = bad
    optimizer = ClippedSGD(0.3, clip_norm)
    after(optimizer, [*GRADIENTS[:2], broken, *GRADIENTS[2:]])
    assert (int(optimizer.finite_steps), int(optimizer.iterations)) == (2, STEPS + 1)
    assert float(optimizer.gradient_norm) == pytest.approx(norm_of(GRADIENTS[1]), rel=1e-6)


def test_count_and_norm_are_variables_of_the_optimizer():
    """Under names that do not depend on when it is built; so checkpoints hold them."""
    optimizer = ClippedSGD(0.3, 5.0)
    names = ["sgd/iteration", "sgd/learning_rate", "sgd/finite_steps", "sgd/gradient_norm"]
    assert [v.path for v in optimizer.variables] == names
    after(optimizer)
    assert [v.path for v in optimizer.variables] == names
    assert not any(v.trainable for v in optimizer.variables)
    assert optimizer.gradient_norm.dtype == "float32" and optimizer.finite_steps.dtype == optimizer.iterations.dtype


def test_a_gradient_of_zeros_changes_nothing():
    found = after(ClippedSGD(0.3, 5.0), [[np.zeros_like(g) for g in GRADIENTS[0]]])
    assert_equal(found, WEIGHTS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_reaches_every_weight(bad):
    """A diverged training must show, not go on with weights that were clipped to zero steps."""
    gradients = [g.copy() for g in GRADIENTS[0]]
    gradients[0][0, 0] = bad
    assert all(np.isnan(value).all() for value in after(ClippedSGD(0.3, 5.0), [gradients]))


@pytest.mark.parametrize("clip_norm", [0.01, None])
def test_a_word_seen_twice_counts_once_in_the_norm_with_the_sum_of_its_rows(clip_norm):
    """Training through an embedding whose gradient is a list of rows, where the backend makes one."""
    ids, targets = np.array([[1, 5, 1], [5, 5, 8]], np.int32), np.zeros((2, 3, 4), np.float32)
    table = np.random.default_rng(4).normal(size=(9, 4)).astype(np.float32)

    expected = table.astype(np.float64)
    for _ in range(3):
        gradient, outputs = np.zeros_like(expected), np.tanh(expected[ids])
        np.add.at(gradient, ids, 2 * outputs * (1 - outputs**2) / 4)
        expected -= 0.3 * min(1.0, (clip_norm or np.inf) / np.linalg.norm(gradient)) * gradient
    inputs, layer = keras.Input(batch_shape=(2, 3), dtype="int32"), Embedding(9, 4)
    layer.sparse_gradient = True
    model = keras.Model(inputs, keras.layers.Activation("tanh")(layer(inputs)))
    layer.embeddings.assign(table)
    model.compile(ClippedSGD(0.3, clip_norm), keras.losses.MeanSquaredError(reduction="sum"), jit_compile=False)
    for _ in range(3):
        model.train_on_batch(ids, targets)
    assert float(model.optimizer.gradient_norm) == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    found = keras.ops.convert_to_numpy(layer.embeddings)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(found[[0, 2, 3, 4, 6, 7]], table[[0, 2, 3, 4, 6, 7]])
    assert np.abs(found[[1, 5, 8]] - table[[1, 5, 8]]).min() > 1e-6


def test_configuration_goes_round():
    optimizer = ClippedSGD(0.3, 2.0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(again) is ClippedSGD
    assert again.get_config() == optimizer.get_config()
    assert_equal(after(again), after(ClippedSGD(0.3, 2.0)))
