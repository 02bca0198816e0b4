import numpy as np
import pytest
from keras import ops

from keraslm.layers.kernels.dispatch import scan
from tests.reference.differences import central_differences
from tests.support.gradients import compiled, gradients, tensor, wide

B, T, D = 3, 7, 4
random = np.random.default_rng(8)
X, A, S, MATRIX = (random.normal(size=shape) for shape in [(B, T, D), (B, D), (B, D), (D, D)])
KEEP = np.ones((B, T))
KEEP[0, 0] = KEEP[1, 3] = KEEP[1, 4] = KEEP[2, 6] = 0.0  # first, twice in a row, last
COTANGENTS = [random.normal(size=shape) for shape in [(B, T, D), (B, D), (B, D)]]
every_keep = pytest.mark.parametrize("keep", [None, KEEP], ids=["plain", "keep"])


def numpy_scan(x, a, s, matrix, keep):
    outputs = []
    for t in range(x.shape[1]):
        factor = 1 if keep is None else keep[:, t, None]
        a, s = a * factor, s * factor
        a, s = 1 / (1 + np.exp(-(x[:, t] + a @ matrix))), s + a
        outputs.append(a)
    return np.stack(outputs, axis=1), a, s


def by_keras(x, a, s, matrix, keep):
    def step(state, x):
        a, s = state
        return ops.sigmoid(x + a @ matrix), s + a

    outputs, (a, s) = scan(step, (a, s), x, keep)
    return outputs, a, s


def loss_of(dtype, keep):
    weights, keep = [tensor(c, dtype) for c in COTANGENTS], None if keep is None else tensor(keep, dtype)
    return lambda *arguments: sum(
        ops.sum(value * weight) for value, weight in zip(by_keras(*arguments, keep), weights, strict=True)
    )


def numpy_gradients(keep):
    arrays = [array.copy() for array in (X, A, S, MATRIX)]

    def loss():
        return sum((v * w).sum() for v, w in zip(numpy_scan(*arrays, keep), COTANGENTS, strict=True))

    return central_differences(loss, arrays)


@every_keep
def test_values_equal_numpy_in_float64(keep):
    with wide():
        found = by_keras(*(tensor(a) for a in (X, A, S, MATRIX)), None if keep is None else tensor(keep))
        for value, expected in zip(found, numpy_scan(X, A, S, MATRIX, keep), strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(value), expected, atol=1e-13)


@every_keep
def test_gradients_reach_inputs_state_and_captured_tensors(keep):
    with wide():
        found = gradients(loss_of(np.float64, keep), [tensor(a) for a in (X, A, S, MATRIX)])
    for value, expected in zip(found, numpy_gradients(keep), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-8)


@every_keep
def test_compiled_gradients_equal_numpy(keep):
    found = gradients(compiled(loss_of(np.float32, keep)), [tensor(a, np.float32) for a in (X, A, S, MATRIX)])
    for value, expected in zip(found, numpy_gradients(keep), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_one_tensorflow_function_serves_windows_of_any_length(backend):
    if backend != "tensorflow":
        pytest.skip("only TensorFlow compiles for a length that it does not know")
    import tensorflow as tf

    a, s, matrix = (tensor(v, np.float32) for v in (A, S, MATRIX))

    @tf.function(input_signature=[tf.TensorSpec((B, None, D), tf.float32)])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(matrix)
            outputs, _, last = by_keras(x, a, s, matrix, None)
            value = tf.reduce_sum(outputs)
        return outputs, last, tape.gradient(value, matrix)

    for length in (1, 4, T):
        x = X[:, :length].astype(np.float32)
        expected, _, expected_last = numpy_scan(x, A, S, MATRIX, None)
        outputs, last, gradient = step(x)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
        np.testing.assert_allclose(last, expected_last, atol=1e-5)
        around = [numpy_scan(x, A, S, MATRIX + sign * 1e-5, None)[0].sum() for sign in (1, -1)]
        assert float(tf.reduce_sum(gradient)) == pytest.approx((around[0] - around[1]) / 2e-5, abs=1e-4)
