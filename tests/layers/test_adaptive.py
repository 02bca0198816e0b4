import numpy as np
import pytest
from keras import ops

from keraslm.layers import kernels
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm.layers.kernels.dispatch import adaptive_cross_entropy
from tests.reference.differences import central_differences
from tests.support.gradients import compiled, gradients, tensor, wide

B, T, H = 3, 5, 8
ENDS = (6, 10, 17)  # a head of 6, clusters of 4 and 7
V = ENDS[-1]
SIZES = [
    (H, 8),
    (8,),
    (H, 3),
    (3, 4),
    (4,),
    (H, 2),
    (2, 7),
    (7,),
]  # head; then projection, kernel and bias of each cluster

random = np.random.default_rng(5)
ARRAYS = [random.normal(size=(B, T, H)), *(random.normal(size=shape) for shape in SIZES)]
TARGETS = random.integers(0, V, size=(B, T)).astype(np.int32)
TARGETS[0] = [0, 5, 6, 9, 10]
TARGETS[1, 0] = 16
COTANGENT = random.normal(size=(B, T))


def operation(hidden, head_kernel, head_bias, *tails, targets=TARGETS, product_dtype="float32"):
    tails = [tails[:3], tails[3:]]
    return adaptive_cross_entropy(
        hidden, (head_kernel, head_bias), tails, tensor(targets), ENDS, product_dtype=product_dtype
    )


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def log_probabilities(hidden, head_kernel, head_bias, *tails):
    """The formula of Grave et al. in NumPy, `(B, T, V)`."""
    head = log_softmax(hidden @ head_kernel + head_bias)
    first = log_softmax(hidden @ tails[0] @ tails[1] + tails[2])
    second = log_softmax(hidden @ tails[3] @ tails[4] + tails[5])
    return np.concatenate([head[..., :6], head[..., 6:7] + first, head[..., 7:8] + second], axis=-1)


def picked(log_p, targets=TARGETS):
    return -np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]


@pytest.fixture(params=[None, 2], ids=["complete", "pieces"])
def cut(request, monkeypatch):
    """Memory for all rows of logits, or for two."""
    if request.param:
        monkeypatch.setattr(kernels, "BUDGET", request.param * 4 * 7)


def test_nats_equal_the_formula_in_float64(cut):
    with wide():
        found = ops.convert_to_numpy(operation(*[tensor(a) for a in ARRAYS]))
    np.testing.assert_allclose(found, picked(log_probabilities(*ARRAYS)), rtol=1e-12)


def test_compiled_nats_equal_the_formula(cut):
    function = compiled(lambda *arrays: operation(*arrays))
    found = ops.convert_to_numpy(function(*[tensor(a, np.float32) for a in ARRAYS]))
    np.testing.assert_allclose(found, picked(log_probabilities(*ARRAYS)), rtol=1e-5, atol=1e-6)


def test_bfloat16_products_are_near(backend):
    if backend == "tensorflow":
        pytest.skip("training on TensorFlow's CPU has no bfloat16")
    found = ops.convert_to_numpy(operation(*[tensor(a, np.float32) for a in ARRAYS], product_dtype="bfloat16"))
    np.testing.assert_allclose(found, picked(log_probabilities(*ARRAYS)), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("targets", [TARGETS, TARGETS % 6, np.full((B, T), 16, np.int32)], ids=["all", "head", "tail"])
def test_gradients_equal_finite_differences(cut, targets):
    arrays = [a.copy() for a in ARRAYS]
    expected = central_differences(lambda: (picked(log_probabilities(*arrays), targets) * COTANGENT).sum(), arrays)
    with wide():
        cotangent = tensor(COTANGENT)
        loss = lambda *weights: ops.sum(operation(*weights, targets=targets) * cotangent)  # noqa: E731
        found = gradients(loss, [tensor(a) for a in ARRAYS])
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-8)


def test_the_layer_returns_a_distribution_and_its_cost():
    layer, hidden = AdaptiveSoftmax(V, ENDS[:-1]), tensor(ARRAYS[0], np.float32)
    layer.build((B, T, H))
    for weight in layer.weights:
        weight.assign(np.random.default_rng(len(weight.path)).normal(size=weight.shape))
    log_p = ops.convert_to_numpy(layer(hidden))
    assert log_p.shape == (B, T, V)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=-1), 1.0, rtol=1e-5)
    nats = ops.convert_to_numpy(layer.nats(hidden, tensor(TARGETS)))
    np.testing.assert_allclose(nats, picked(log_p), rtol=1e-5, atol=1e-5)
