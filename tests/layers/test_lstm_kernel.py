import contextlib
import importlib

import keras
import numpy as np
import pytest
from keras import ops

from keraslm.layers.kernels.dispatch import describe_lstm, lstm, product
from keraslm.layers.lstm import StatefulLSTM
from tests.reference.differences import central_differences
from tests.reference.lstm import numpy_lstm, numpy_lstm_gradients
from tests.support.gradients import compiled, gradients, tensor, wide

B, T, D, H = 3, 7, 4, 5
SHAPES = [(B, T, D), (B, H), (B, H), (D, 4 * H), (H, 4 * H), (4 * H,)]
NAMES = ["x", "h0", "c0", "kernel", "recurrent_kernel", "bias"]

random = np.random.default_rng(5)
ARRAYS = [random.normal(size=shape, scale=0.7) for shape in SHAPES]
COTANGENTS = [random.normal(size=shape) for shape in [(B, T, H), (B, H), (B, H)]]
MASK = random.choice([0.0, 1 / 0.7], size=(B, H), p=[0.3, 0.7])
KEEP = np.ones((B, T))
KEEP[0, 0] = KEEP[0, 3] = KEEP[1, 4] = KEEP[1, 5] = KEEP[2, 6] = 0.0  # first, middle, twice in a row, last

FACTORS = {"plain": {}, "mask": {"mask": MASK}, "keep": {"keep": KEEP}, "both": {"mask": MASK, "keep": KEEP}}
every_factor = pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS.keys())


def tensors(arrays, dtype):
    return [tensor(a, dtype) for a in arrays]


def loss_of(operation, cotangents, factors, **options):
    """A scalar function of the six arguments whose gradients reach all three outputs of an LSTM."""

    def loss(*arguments):
        found = operation(*arguments, **factors, **options)
        return sum(ops.sum(value * weight) for value, weight in zip(found, cotangents, strict=True))

    return loss


def gradients_of(operation, dtype, factors, arrays=ARRAYS, cotangents=COTANGENTS, **options):
    factors = {name: tensor(a, dtype) for name, a in factors.items()}
    loss = loss_of(operation, tensors(cotangents, dtype), factors, **options)
    return dict(zip(NAMES, gradients(loss, tensors(arrays, dtype)), strict=True))


def numpy_gradients(factors, arrays=ARRAYS, cotangents=COTANGENTS):
    return dict(zip(NAMES, numpy_lstm_gradients(*arrays, *cotangents, **factors), strict=True))


def assert_near(found, expected, tolerance):
    """Each array within `tolerance` of the largest number in it."""
    for name, value in expected.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance * np.abs(value).max(), err_msg=name)


@every_factor
def test_gradients_of_the_reference_equal_finite_differences(factors):
    arrays = [a.copy() for a in ARRAYS]
    loss = lambda: sum((v * w).sum() for v, w in zip(numpy_lstm(*arrays, **factors), COTANGENTS, strict=True))  # noqa: E731
    for found, expected in zip(numpy_gradients(factors).values(), central_differences(loss, arrays), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-7)


every_type = pytest.mark.parametrize(
    ("dtype", "context", "tolerance"),
    [(np.float64, wide, 1e-12), (np.float32, contextlib.nullcontext, 5e-6)],
    ids=["float64", "float32"],
)


@every_type
@every_factor
def test_values_equal_numpy(factors, dtype, context, tolerance):
    with context():
        found = lstm(*tensors(ARRAYS, dtype), **{name: tensor(a, dtype) for name, a in factors.items()})
        for value, expected in zip(found, numpy_lstm(*ARRAYS, **factors), strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(value), expected, atol=tolerance / 5)


@every_type
@every_factor
def test_gradients_equal_numpy(factors, dtype, context, tolerance):
    with context():
        assert_near(gradients_of(lstm, dtype, factors), numpy_gradients(factors), tolerance)


@pytest.mark.parametrize("output", [0, 1, 2], ids=["outputs", "h", "c"])
def test_one_output_alone_is_enough_for_a_gradient(output):
    """In training, the state after a window is cut from the graph."""
    cotangents = [c if number == output else 0 * c for number, c in enumerate(COTANGENTS)]
    with wide():
        loss = lambda *arguments: ops.sum(lstm(*arguments)[output] * tensor(cotangents[output]))  # noqa: E731
        found = dict(zip(NAMES, gradients(loss, tensors(ARRAYS, np.float64)), strict=True))
        assert_near(found, numpy_gradients({}, cotangents=cotangents), 1e-12)


@pytest.mark.parametrize(
    ("batch", "steps", "inputs", "units"), [(1, 1, 1, 1), (2, 1, 3, 4), (1, 9, 8, 2), (4, 3, 1, 6)]
)
def test_any_sizes(batch, steps, inputs, units):
    rng = np.random.default_rng(batch)
    shapes = [(batch, steps, inputs), (batch, units), (batch, units)]
    shapes += [(inputs, 4 * units), (units, 4 * units), (4 * units,)]
    arrays = [rng.normal(size=shape) for shape in shapes]
    cotangents = [rng.normal(size=s) for s in [(batch, steps, units), (batch, units), (batch, units)]]
    factors = {"mask": rng.choice([0.0, 2.0], size=(batch, units)), "keep": rng.choice([0.0, 1.0], (batch, steps))}
    with wide():
        found = gradients_of(lstm, np.float64, factors, arrays, cotangents)
        expected = numpy_gradients(factors, arrays, cotangents)
        for name in NAMES:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-12 * (1 + np.abs(expected[name]).max()))


def test_the_arguments_are_left_as_they_were():
    arguments = tensors(ARRAYS, np.float32)
    lstm(*arguments, mask=tensor(MASK, np.float32), keep=tensor(KEEP, np.float32))
    for argument, array in zip(arguments, ARRAYS, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(argument), array.astype(np.float32))


@every_factor
def test_compiled_gradients_equal_numpy(factors):
    factors32 = {name: tensor(a, np.float32) for name, a in factors.items()}
    loss = compiled(loss_of(lstm, tensors(COTANGENTS, np.float32), factors32))
    found = gradients(loss, tensors(ARRAYS, np.float32))
    assert_near(dict(zip(NAMES, found, strict=True)), numpy_gradients(factors), 5e-6)


def test_one_tensorflow_function_serves_windows_of_any_length(backend):
    if backend != "tensorflow":
        pytest.skip("only TensorFlow compiles for a length that it does not know")
    import tensorflow as tf

    free = tf.TensorSpec((B, None, D), tf.float32)
    arguments = tensors(ARRAYS[1:], np.float32)

    @tf.function(input_signature=[free])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = tf.reduce_sum(lstm(x, *arguments)[0])
        return tape.gradient(value, arguments)

    x = ARRAYS[0].astype(np.float32)
    for length in (1, 4, T):
        cotangents = [np.ones((B, length, H)), np.zeros((B, H)), np.zeros((B, H))]
        expected = numpy_lstm_gradients(x[:, :length], *ARRAYS[1:], *cotangents)[1:]
        found = [g.numpy() for g in step(x[:, :length])]
        assert_near(dict(zip(NAMES[1:], found, strict=True)), dict(zip(NAMES[1:], expected, strict=True)), 5e-6)


@every_factor
def test_bfloat16_products_stay_near_and_all_else_is_float32(factors):
    """Eight bits of mantissa: each operand is wrong by at most 0.4 percent."""
    found = gradients_of(lstm, np.float32, factors, product_dtype="bfloat16")
    assert {g.dtype for g in found.values()} == {np.dtype("float32")}
    assert_near(found, numpy_gradients(factors), 0.03)
    values = lstm(
        *tensors(ARRAYS, np.float32),
        **{name: tensor(a, np.float32) for name, a in factors.items()},
        product_dtype="bfloat16",
    )
    for value, expected in zip(values, numpy_lstm(*ARRAYS, **factors), strict=True):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        difference = np.abs(ops.convert_to_numpy(value) - expected).max()
        assert 1e-5 < difference < 0.03  # the lower bound: bfloat16 was really used


@pytest.mark.parametrize("wrapped", [lambda function: function, compiled], ids=["eager", "compiled"])
def test_results_of_bfloat16_products_are_rounded(wrapped):
    """1 + 2 ** -8 lies in the middle between two numbers of bfloat16, and is rounded to 1."""
    ones = tensor(np.ones((1, 2)), np.float32)
    kernel = tensor(np.repeat([[1.0], [2.0**-8]], 8, axis=1), np.float32)
    arguments = ones[:, None], ones, ones, kernel, kernel, tensor(np.zeros(8), np.float32)
    h, _, c = map(ops.convert_to_numpy, wrapped(lambda *a: lstm(*a, product_dtype="bfloat16"))(*arguments))
    gate = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(c, np.full((1, 2), gate + gate * np.tanh(2.0)), rtol=1e-6)
    np.testing.assert_allclose(h[:, 0], gate * np.tanh(c), rtol=1e-6)
    np.testing.assert_array_equal(ops.convert_to_numpy(product(ones, kernel, "bfloat16")), np.ones((1, 8)))


def test_native_kernel_of_torch_equals_numpy(backend):
    if backend != "torch":
        pytest.skip("only torch has a native LSTM")
    native = importlib.import_module("keraslm.layers.kernels.recurrent_torch").native

    def batch_first(x, *arguments):
        h, h_last, c_last = native(x.transpose(0, 1), *arguments)
        return h.transpose(0, 1), h_last, c_last

    assert_near(gradients_of(batch_first, np.float64, {}), numpy_gradients({}), 1e-12)


def test_without_a_gpu_the_description_names_the_hand_written_kernel(backend):
    for dtype in ("float32", "bfloat16"):
        for options in ({}, {"resets": True}):
            assert describe_lstm(0.0, dtype, **options) == f"hand-written {backend} kernel, matrix products in {dtype}"


REQUESTS = {  # recurrent dropout, type of the products, resets, whether cuDNN accepts the type: why cuDNN is not used
    (0.0, "float32", False, True): "",
    (0.2, "float32", False, True): "supports neither recurrent dropout nor resets",
    (0.0, "float32", True, True): "supports neither recurrent dropout nor resets",
    (0.0, "bfloat16", False, True): "does not support a float32 state with bfloat16 products",
    (0.0, "float32", False, False): "is not available for this type",
}


@pytest.mark.parametrize(("wanted", "obstacle"), REQUESTS.items())
def test_the_description_is_that_of_the_kernel_that_runs_on_a_gpu(backend, monkeypatch, wanted, obstacle):
    if backend != "torch":
        pytest.skip("only torch chooses between kernels")
    dropout, dtype, resets, acceptable = wanted
    torch_kernels, used = importlib.import_module("keraslm.layers.kernels.recurrent_torch"), []
    native = torch_kernels.native
    monkeypatch.setattr(torch_kernels, "_on_gpu", lambda x: True)
    monkeypatch.setattr("torch.backends.cudnn.is_acceptable", lambda x: acceptable)
    monkeypatch.setattr(torch_kernels, "native", lambda *given: (used.append("cuDNN"), native(*given))[1])
    layer = StatefulLSTM(H, product_dtype=dtype, recurrent_dropout=dropout)
    layer(np.ones((B, T, D), np.float32), resets=np.ones((B, T), bool) if resets else None, training=True)
    assert used == ([] if obstacle else ["cuDNN"])
    kernel = f"hand-written torch kernel (cuDNN {obstacle})" if obstacle else "cuDNN kernel"
    assert describe_lstm(dropout, dtype, resets) == f"{kernel}, matrix products in {dtype}"
