import keras
import numpy as np
import pytest

from keraslm.layers.embedding import Embedding
from keraslm.optimizers.clipped import ClippedAdamW, ClippedSGD
from tests.reference import updates
from tests.reference.updates import norm_of

SHAPES = [(7, 5), (5,), (3, 4, 2)]
STEPS = 4
random = np.random.default_rng(2)
WEIGHTS = [random.normal(size=shape).astype(np.float32) for shape in SHAPES]
GRADIENTS = [[random.normal(size=shape).astype(np.float32) for shape in SHAPES] for _ in range(STEPS)]
# Norms grow from about 0.08 to about 80, so that a limit of 5 clips some of them.
GRADIENTS = [[10.0 ** (number - 2) * g for g in step] for number, step in enumerate(GRADIENTS)]


def variables():
    return [keras.Variable(w, name=f"w{number}") for number, w in enumerate(WEIGHTS)]


def after(optimizer, steps=GRADIENTS):
    own = variables()
    for gradients in steps:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], own)
    return [keras.ops.convert_to_numpy(v) for v in own]


def numpy_after(clip_norm, rates=(0.3,) * STEPS, decay=0.0):
    return updates.sgd(WEIGHTS, GRADIENTS, rates, clip_norm, decay)[-1]


def assert_equal(found, expected):
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.2])  # subtracted from every weight, apart from the clipping
@pytest.mark.parametrize("clip_norm", [5.0, 1e-3, None])
def test_updates_equal_numpy_and_keras(clip_norm, decay):
    found = after(ClippedSGD(0.3, clip_norm, decay))
    assert_equal(found, numpy_after(clip_norm, decay=decay))
    if not decay:
        assert_equal(found, after(keras.optimizers.SGD(0.3, global_clipnorm=clip_norm)))


def test_the_learning_rate_can_be_assigned_and_can_be_a_schedule():
    optimizer = ClippedSGD(0.1)
    optimizer.learning_rate = 0.3
    assert_equal(after(optimizer), numpy_after(None))
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.3, 0.2, 0.1])
    assert_equal(after(ClippedSGD(schedule, 5.0)), after(keras.optimizers.SGD(schedule, global_clipnorm=5.0)))


@pytest.mark.parametrize("clip_norm", [5.0, None])
def test_the_norm_is_that_before_clipping(clip_norm):
    for steps in range(1, STEPS + 1):
        optimizer = ClippedSGD(0.3, clip_norm)
        after(optimizer, GRADIENTS[:steps])
        assert float(optimizer.gradient_norm) == pytest.approx(norm_of(GRADIENTS[steps - 1]), rel=1e-6)
        assert int(optimizer.finite_steps) == int(optimizer.iterations) == steps


@pytest.mark.parametrize("clip_norm", [5.0, None])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_count_and_norm_stop_at_the_first_gradient_that_is_not_finite(clip_norm, bad):
    broken = [g.copy() for g in GRADIENTS[2]]
    broken[1][3] = bad
    optimizer = ClippedSGD(0.3, clip_norm)
    after(optimizer, [*GRADIENTS[:2], broken, *GRADIENTS[2:]])
    assert (int(optimizer.finite_steps), int(optimizer.iterations)) == (2, STEPS + 1)
    assert float(optimizer.gradient_norm) == pytest.approx(norm_of(GRADIENTS[1]), rel=1e-6)


@pytest.mark.parametrize("kind", [ClippedSGD, ClippedAdamW])
def test_all_state_is_in_variables_of_the_optimizer(kind):
    """Their names do not depend on when the optimizer is built, so that checkpoints can be restored."""
    optimizer = kind(0.3, 5.0, windows=3, averaging=True, name="own")
    own = ["iteration", "learning_rate", "finite_steps", "gradient_norm", "mean_norm", "mean_norm_low", "epoch_start"]
    own += ["window_factors", "averages_from"]
    assert [v.path for v in optimizer.variables] == [f"own/{name}" for name in own]
    after(optimizer)
    of_weights = ["average", "mean", "mean_square"] if kind is ClippedAdamW else ["average"]
    own += [f"w{number}_{name}" for name in of_weights for number in range(3)]
    assert [v.path for v in optimizer.variables] == [f"own/{name}" for name in own]
    assert not any(v.trainable for v in optimizer.variables)
    assert optimizer.gradient_norm.dtype == "float32" and optimizer.finite_steps.dtype == optimizer.iterations.dtype


def test_a_plain_optimizer_keeps_no_table_and_no_averages():
    optimizer = ClippedSGD(0.3, 5.0)
    after(optimizer)
    assert optimizer.window_factors is None and optimizer.averages == [] and optimizer.averaged() == {}
    assert len(optimizer.variables) == 7


def test_a_gradient_of_zeros_changes_nothing():
    found = after(ClippedSGD(0.3, 5.0), [[np.zeros_like(g) for g in GRADIENTS[0]]])
    assert_equal(found, WEIGHTS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_reaches_every_weight(bad):
    """Divergence must be visible; training must not continue with gradients clipped to zero."""
    gradients = [g.copy() for g in GRADIENTS[0]]
    gradients[0][0, 0] = bad
    assert all(np.isnan(value).all() for value in after(ClippedSGD(0.3, 5.0), [gradients]))


@pytest.mark.parametrize(("clip_norm", "decay"), [(0.01, 0.0), (None, 0.0), (0.01, 0.2)])
def test_a_word_seen_twice_counts_once_in_the_norm_with_the_sum_of_its_rows(clip_norm, decay):
    """Train an embedding with a sparse gradient, on the backends that support one."""
    ids, targets = np.array([[1, 5, 1], [5, 5, 8]], np.int32), np.zeros((2, 3, 4), np.float32)
    table = np.random.default_rng(4).normal(size=(9, 4)).astype(np.float32)

    expected = table.astype(np.float64)
    for _ in range(3):
        gradient, outputs = np.zeros_like(expected), np.tanh(expected[ids])
        np.add.at(gradient, ids, 2 * outputs * (1 - outputs**2) / 4)
        gradient_clipped = min(1.0, (clip_norm or np.inf) / np.linalg.norm(gradient)) * gradient
        expected -= 0.3 * (gradient_clipped + decay * expected)  # of every row, also those without a gradient
    inputs, layer = keras.Input(batch_shape=(2, 3), dtype="int32"), Embedding(9, 4)
    layer.sparse_gradient = True
    model = keras.Model(inputs, keras.layers.Activation("tanh")(layer(inputs)))
    layer.embeddings.assign(table)
    model.compile(ClippedSGD(0.3, clip_norm, decay), keras.losses.MeanSquaredError(reduction="sum"), jit_compile=False)
    for _ in range(3):
        model.train_on_batch(ids, targets)
    assert float(model.optimizer.gradient_norm) == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    found = keras.ops.convert_to_numpy(layer.embeddings)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if not decay:
        np.testing.assert_array_equal(found[[0, 2, 3, 4, 6, 7]], table[[0, 2, 3, 4, 6, 7]])
    assert np.abs(found[[1, 5, 8]] - table[[1, 5, 8]]).min() > 1e-6


@pytest.mark.parametrize(
    "make",
    [lambda: ClippedSGD(0.3, 2.0, 0.1, 4, True), lambda: ClippedAdamW(0.3, 2.0, 0.1, 4, True, beta_1=0.5, beta_2=0.7)],
)
def test_a_configuration_gives_the_same_optimizer(make):
    optimizer = make()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert_equal(after(again), after(make()))


@pytest.mark.parametrize("beta_1", [0.8, 0.0])  # 0 is RMSprop with both corrections
@pytest.mark.parametrize(("clip_norm", "decay"), [(5.0, 0.2), (1e-3, 0.0), (None, 0.1)])
def test_adamw_equals_numpy(clip_norm, decay, beta_1):
    optimizer = ClippedAdamW(0.05, clip_norm, decay, beta_1=beta_1, beta_2=0.95)
    expected = updates.adamw(WEIGHTS, GRADIENTS, [0.05] * STEPS, clip_norm, decay, beta_1, 0.95)[-1]
    assert_equal(after(optimizer), expected)
    assert float(optimizer.gradient_norm) == pytest.approx(norm_of(GRADIENTS[-1]), rel=1e-6)


def test_adamw_adds_epsilon_to_the_corrected_root():
    """Only small gradients show where it is added."""
    steps = [[g * 1e-7 for g in GRADIENTS[number]] for number in (2, 3)]
    assert_equal(after(ClippedAdamW(0.5), steps), updates.adamw(WEIGHTS, steps, [0.5, 0.5])[-1])


def test_adamw_equals_torch():
    torch = pytest.importorskip("torch")
    parameters = [torch.nn.Parameter(torch.from_numpy(w.copy())) for w in WEIGHTS]
    stock = torch.optim.AdamW(parameters, 0.05, weight_decay=0.2)
    for gradients in GRADIENTS:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient.copy())
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        stock.step()
    assert_equal(after(ClippedAdamW(0.05, 5.0, 0.2)), [p.detach().cpu().numpy() for p in parameters])


@pytest.mark.parametrize("kind", [ClippedSGD, ClippedAdamW])
def test_compiled_training_equals_single_updates(kind):
    """All options together, in `fit` as the backend compiles it."""
    ids = np.arange(6, dtype=np.int32).reshape(6, 1)
    model = keras.Sequential([keras.Input((1,), dtype="int32"), keras.layers.Embedding(6, 3)])
    optimizer = kind(0.1, 0.5, weight_decay=0.1, windows=2, averaging=True)
    model.compile(optimizer, keras.losses.MeanSquaredError(reduction="sum"))
    factors, targets = np.array([1.0, 0.25], np.float32), np.ones((6, 1, 3), np.float32)
    optimizer.build(model.trainable_variables)
    optimizer.window_factors.assign(factors)
    optimizer.averages_from.assign(2)
    table = keras.ops.convert_to_numpy(model.trainable_variables[0]).astype(np.float64)
    weights, iterates, moments = [table], [], [0.0, 0.0]
    model.fit(ids, targets, batch_size=6, epochs=5, shuffle=False, verbose=0)
    for step in range(5):
        (gradient,) = updates.clipped([(2 / 3) * (weights[-1] - 1)], 0.5)
        if kind is ClippedAdamW:
            moments = [0.9 * moments[0] + 0.1 * gradient, 0.999 * moments[1] + 0.001 * gradient**2]
            mean, square = moments[0] / (1 - 0.9 ** (step + 1)), moments[1] / (1 - 0.999 ** (step + 1))
            gradient = mean / (np.sqrt(square) + 1e-8)
        weights.append(weights[-1] - 0.1 * factors[step % 2] * (gradient + 0.1 * weights[-1]))
        iterates.append(weights[-1])
    found = keras.ops.convert_to_numpy(model.trainable_variables[0])
    np.testing.assert_allclose(found, weights[-1], atol=1e-5)
    (average,) = optimizer.averaged().values()
    np.testing.assert_allclose(average, np.mean(iterates[2:], axis=0), atol=1e-5)


@pytest.mark.parametrize("kind", [ClippedSGD, ClippedAdamW])
def test_each_window_of_an_epoch_has_its_factor_on_the_rate(kind):
    optimizer, factors = kind(0.3, 5.0, weight_decay=0.1, windows=3), [0.5, 2.0, 0.25]
    optimizer.window_factors.assign(factors)
    rates = [0.3 * factors[step % 3] for step in range(STEPS)]
    reference = updates.adamw if kind is ClippedAdamW else updates.sgd
    assert_equal(after(optimizer), reference(WEIGHTS, GRADIENTS, rates, 5.0, 0.1)[-1])


def test_the_mean_norm_is_that_of_the_epoch_so_far():
    optimizer, own, norms = ClippedSGD(0.3, 5.0), variables(), [norm_of(g) for g in GRADIENTS]
    for step, gradients in enumerate(GRADIENTS):
        optimizer.epoch_start.assign(step // 3 * 3)
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], own)
        assert float(optimizer.mean_norm) == pytest.approx(np.mean(norms[step // 3 * 3 : step + 1]), rel=1e-6)


def test_the_mean_norm_of_a_long_epoch_does_not_stall():
    """After 1e7 windows, the share of a window in the mean is below the last digit of a float32."""
    optimizer, own, windows, norm = ClippedSGD(0.0), variables(), 10_000_000, norm_of(GRADIENTS[0])
    optimizer.build(own)
    for variable, value in ((optimizer.iterations, windows), (optimizer.finite_steps, windows)):
        variable.assign(value)
    optimizer.mean_norm.assign(1.1 * norm)
    first = float(optimizer.mean_norm)
    gradients = [keras.ops.convert_to_tensor(g) for g in GRADIENTS[0]]
    for _ in range(100):
        optimizer.apply(gradients, own)
    moved = float(optimizer.mean_norm) - first + float(optimizer.mean_norm_low)
    assert moved == pytest.approx(100 * (norm - first) / windows, rel=1e-3)


@pytest.mark.parametrize("kind", [ClippedSGD, ClippedAdamW])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_averages_are_the_mean_of_the_weights_after_each_step_from_a_given_one(kind, start):
    optimizer = kind(0.3, 5.0, averaging=True)
    optimizer.averages_from.assign(start)
    after(optimizer)
    reference = updates.adamw if kind is ClippedAdamW else updates.sgd
    iterates = reference(WEIGHTS, GRADIENTS, [0.3] * STEPS, 5.0)
    found = optimizer.averaged()
    assert list(found) == ["w0", "w1", "w2"]
    for number, value in enumerate(found.values()):
        np.testing.assert_allclose(value, np.mean([w[number] for w in iterates[start:]], axis=0), rtol=1e-5, atol=1e-6)


def test_nothing_is_averaged_before_the_first_step_to_average():
    optimizer = ClippedSGD(0.3, averaging=True)
    weights = after(optimizer)
    assert optimizer.averaged() == {}
    for average, weight in zip(optimizer.averages, weights, strict=True):  # they follow the weights
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(average), weight)
    optimizer.averages_from.assign(STEPS)
    assert optimizer.averaged() == {}
