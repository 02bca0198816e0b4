import keras
import numpy as np
import pytest
from keras import ops

from keraslm.layers import kernels
from keraslm.layers.kernels.dispatch import cross_entropy
from tests.reference.language_model import token_nats
from tests.support.gradients import compiled, gradients, tensor, wide

B, T, H, V = 3, 5, 4, 11

random = np.random.default_rng(3)
HIDDEN, KERNEL, BIAS = (random.normal(size=shape) for shape in [(B, T, H), (H, V), (V,)])
ARRAYS = [HIDDEN, KERNEL, BIAS]
TARGETS = random.integers(0, V, size=(B, T)).astype(np.int32)
TARGETS[0, 0], TARGETS[-1, -1] = 0, V - 1
COTANGENT = random.normal(size=(B, T))


@pytest.fixture(params=[None, 4, 1], ids=["complete", "pieces", "rows"])
def cut(request, monkeypatch):
    """Memory for all rows of logits, for four of the fifteen, or for one."""
    if request.param:
        monkeypatch.setattr(kernels, "BUDGET", request.param * 4 * V)


def tensors(dtype):
    return [tensor(a, dtype) for a in ARRAYS]


def gradients_of(operation, dtype, **options):
    cotangent = tensor(COTANGENT, dtype)
    loss = lambda *weights: ops.sum(operation(*weights, tensor(TARGETS), **options) * cotangent)  # noqa: E731
    return gradients(loss, tensors(dtype))


def numpy_gradients():
    """By hidden, kernel and bias, of `sum(COTANGENT * nats)`: softmax minus one-hot, times the cotangent."""
    logits = HIDDEN @ KERNEL + BIAS
    softmax = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    dlogits = (softmax - np.eye(V)[TARGETS]) * COTANGENT[..., None]
    return dlogits @ KERNEL.T, np.einsum("bth,btv->hv", HIDDEN, dlogits), dlogits.sum((0, 1))


def assert_near(found, expected, tolerance):
    for value, wanted in zip(found, expected, strict=True):
        assert value.shape == wanted.shape
        np.testing.assert_allclose(value, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_nats_equal_numpy(cut, dtype, tolerance):
    with wide():
        found = ops.convert_to_numpy(cross_entropy(*tensors(dtype), tensor(TARGETS)))
    np.testing.assert_allclose(found, token_nats(TARGETS, HIDDEN @ KERNEL + BIAS), rtol=tolerance, atol=tolerance)


def test_the_loss_of_a_large_vocabulary_is_that_of_numpy_within_a_millionth():
    rng = np.random.default_rng(1)
    hidden, kernel = rng.normal(size=(8, 20, 64)).astype(np.float32), rng.normal(size=(64, 10_000)).astype(np.float32)
    bias, targets = rng.normal(size=10_000).astype(np.float32), rng.integers(0, 10_000, (8, 20)).astype(np.int32)
    found = ops.convert_to_numpy(cross_entropy(tensor(hidden), tensor(kernel), tensor(bias), tensor(targets)))
    expected = token_nats(targets, hidden.astype(np.float64) @ kernel + bias)
    assert found.sum(dtype=np.float64) == pytest.approx(expected.sum(), rel=1e-6)


def test_extreme_logits_give_exact_nats_and_finite_gradients(cut):
    bias = np.zeros(V, np.float32)
    bias[3], bias[4] = 5000.0, -5000.0
    targets = tensor(np.array([[3, 4, 0]], np.int32))
    hidden, kernel = tensor(np.zeros((1, 3, H), np.float32)), tensor(np.ones((H, V), np.float32))
    found = ops.convert_to_numpy(cross_entropy(hidden, kernel, tensor(bias), targets))
    np.testing.assert_array_equal(found, [[0, 10000, 5000]])
    for gradient in gradients(lambda *a: ops.sum(cross_entropy(*a, targets)), [hidden, kernel, tensor(bias)]):
        assert np.isfinite(gradient).all()


def test_the_arguments_are_left_as_they_were():
    arguments = tensors(np.float32)
    cross_entropy(*arguments, tensor(TARGETS))
    for argument, array in zip(arguments, ARRAYS, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(argument), array.astype(np.float32))


def test_gradients_equal_numpy_in_float64(cut):
    with wide():
        assert_near(gradients_of(cross_entropy, np.float64), numpy_gradients(), 1e-12)


def test_a_transposed_kernel_has_the_same_nats_and_a_transposed_gradient(cut):
    loss = lambda *a: ops.sum(cross_entropy(*a, tensor(TARGETS), transposed=True) * tensor(COTANGENT))  # noqa: E731
    with wide():
        arguments = [tensor(HIDDEN), tensor(KERNEL.T), tensor(BIAS)]
        nats = cross_entropy(*arguments, tensor(TARGETS), transposed=True)
        np.testing.assert_allclose(ops.convert_to_numpy(nats), token_nats(TARGETS, HIDDEN @ KERNEL + BIAS), rtol=1e-12)
        dhidden, dkernel, dbias = numpy_gradients()
        assert_near(gradients(loss, arguments), (dhidden, dkernel.T, dbias), 1e-12)


def test_compiled_gradients_equal_numpy(cut):
    cotangent = tensor(COTANGENT, np.float32)
    loss = compiled(lambda *weights: ops.sum(cross_entropy(*weights, tensor(TARGETS)) * cotangent))
    assert_near(gradients(loss, tensors(np.float32)), numpy_gradients(), 2e-6)


def test_bfloat16_products_stay_near_and_all_else_is_float32(cut):
    """Eight bits of mantissa: each operand is wrong by at most 0.4 percent."""
    nats = cross_entropy(*tensors(np.float32), tensor(TARGETS), product_dtype="bfloat16")
    assert keras.backend.standardize_dtype(nats.dtype) == "float32"
    difference = np.abs(ops.convert_to_numpy(nats) - token_nats(TARGETS, HIDDEN @ KERNEL + BIAS)).max()
    assert 1e-5 < difference < 0.05  # the lower bound: bfloat16 was really used
    found = gradients_of(cross_entropy, np.float32, product_dtype="bfloat16")
    assert {g.dtype for g in found} == {np.dtype("float32")}
    assert_near(found, numpy_gradients(), 0.03)


@pytest.mark.parametrize("wrapped", [lambda function: function, compiled], ids=["eager", "compiled"])
def test_logits_of_bfloat16_products_are_rounded(wrapped):
    """1 + 2 ** -8 lies in the middle between two numbers of bfloat16, and is rounded to 1."""
    kernel = tensor(np.array([[1.0, 0.0], [2.0**-8, 0.0]]), np.float32)
    arguments = tensor(np.ones((1, 1, 2)), np.float32), kernel, tensor(np.zeros(2), np.float32)
    nats = wrapped(lambda *a: cross_entropy(*a, tensor(np.zeros((1, 1), np.int32)), product_dtype="bfloat16"))(
        *arguments
    )
    np.testing.assert_allclose(ops.convert_to_numpy(nats), [[np.log(1 + np.exp(-1.0))]], rtol=1e-6)


def test_pieces_stay_within_the_budget():
    for rows, vocab_size in [(700, 10_000), (700, 1_000_000), (1, 10**9), (12_345, 54_321)]:
        piece = kernels.rows_per_piece(rows, vocab_size)
        assert 1 <= piece <= rows
        assert piece * vocab_size * 4 <= kernels.BUDGET or piece == 1


def test_pieces_need_less_memory(backend):
    """Of the arrays that torch keeps for the backward pass, none is as wide as the vocabulary beyond the budget."""
    if backend != "torch":
        pytest.skip("only torch lets a test see what a graph keeps")
    import torch

    sizes = []

    def wide_arrays(budget):
        sizes.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "BUDGET", budget)
            weights = [a.requires_grad_() for a in tensors(np.float32)]
            with torch.autograd.graph.saved_tensors_hooks(lambda a: (sizes.append(a.numel()), a)[1], lambda a: a):
                cross_entropy(*weights, tensor(TARGETS))
        return sum(size == B * T * V for size in sizes)

    assert wide_arrays(kernels.BUDGET) == 1
    assert wide_arrays(4 * V) == 0
