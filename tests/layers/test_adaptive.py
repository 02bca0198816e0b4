import numpy as np
import pytest
from keras import ops

from keraslm.config import ModelConfig
from keraslm.layers import kernels
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm.layers.kernels.dispatch import adaptive_cross_entropy
from keraslm.network.losses import SequenceLoss
from keraslm.network.model import build_model, nats_model
from keraslm.optimizers.clipped import ClippedSGD
from tests.support.gradients import compiled, gradients, tensor, wide

B, T, H = 3, 5, 8
ENDS = (6, 10, 17)  # a head of 6, clusters of 4 and 7
V = ENDS[-1]
SIZES = [(H, 8), (8,), (H, 3), (3, 4), (4,), (H, 2), (2, 7), (7,)]  # head, then projection, kernel, bias a cluster

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


@pytest.fixture(params=[None, 2], ids=["whole", "pieces"])
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
def test_gradients_are_those_of_pytorchs_own_adaptive_softmax(cut, targets):
    import torch

    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(H, V, list(ENDS[:-1]), div_value=2.0, head_bias=True).double()
    arrays = [a if len(a.shape) > 1 or a.shape == (8,) else np.zeros_like(a) for a in ARRAYS]  # no biases in its tails
    of_clusters = [(arrays[3], arrays[4]), (arrays[6], arrays[7])]
    with torch.no_grad():
        theirs.head.weight.copy_(torch.tensor(arrays[1].T))
        theirs.head.bias.copy_(torch.tensor(arrays[2]))
        for number, weights in enumerate(of_clusters):
            widths = weights[0].shape[1]
            theirs.tail[number][0] = torch.nn.Linear(H, widths, bias=False).double()
            theirs.tail[number][1] = torch.nn.Linear(widths, weights[1].shape[1], bias=False).double()
            for layer, weight in zip(theirs.tail[number], weights, strict=True):
                layer.weight.copy_(torch.tensor(weight.T))
    hidden = torch.tensor(arrays[0].reshape(-1, H), requires_grad=True)
    output = theirs(hidden, torch.tensor(targets.reshape(-1)).long()).output
    (-output * torch.tensor(COTANGENT.reshape(-1))).sum().backward()
    tails = [layer.weight for tail in theirs.tail for layer in tail]
    expected = [hidden.grad.reshape(B, T, H), theirs.head.weight.grad.T, theirs.head.bias.grad]
    expected += [np.zeros(w.T.shape) if w.grad is None else w.grad.T for w in tails]

    with wide():
        cotangent = tensor(COTANGENT)
        loss = lambda *weights: ops.sum(operation(*weights, targets=targets) * cotangent)  # noqa: E731
        found = gradients(loss, [tensor(a) for a in arrays])
    del found[8], found[5]  # of the tails' biases, which are not there
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, np.asarray(wanted), rtol=1e-10, atol=1e-12)


def test_gradients_of_the_tails_biases_are_those_of_differences():
    with wide():
        cotangent = tensor(COTANGENT)
        loss = lambda *weights: ops.sum(operation(*weights) * cotangent)  # noqa: E731
        found = gradients(loss, [tensor(a) for a in ARRAYS])
    for place in (5, 8):
        for index in range(ARRAYS[place].size):
            moved = []
            for step in (1e-5, -1e-5):
                arrays = [a.copy() for a in ARRAYS]
                arrays[place][index] += step
                moved.append((picked(log_probabilities(*arrays)) * COTANGENT).sum())
            assert found[place][index] == pytest.approx((moved[0] - moved[1]) / 2e-5, abs=1e-7)


# The layer


def layer_with_weights():
    layer = AdaptiveSoftmax(V, ENDS[:-1])
    layer.build((B, T, H))
    for weight in layer.weights:
        weight.assign(np.random.default_rng(len(weight.path)).normal(size=weight.shape))
    return layer


def test_the_layer_gives_a_distribution_and_its_cost():
    layer, hidden = layer_with_weights(), tensor(ARRAYS[0], np.float32)
    log_p = ops.convert_to_numpy(layer(hidden))
    assert log_p.shape == (B, T, V)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=-1), 1.0, rtol=1e-5)
    nats = ops.convert_to_numpy(layer.nats(hidden, tensor(TARGETS)))
    np.testing.assert_allclose(nats, picked(log_p), rtol=1e-5, atol=1e-5)


def test_a_model_learns_through_fit():
    config = ModelConfig(num_layers=1, units=32, softmax="adaptive", cutoffs=(10, 20))
    model = nats_model(build_model(config, vocab_size=40, batch_size=4))
    model.compile(ClippedSGD(1.0, 5.0), SequenceLoss())
    stream = np.tile(np.arange(40, dtype=np.int32), 8).reshape(4, -1)  # each id is followed by the next one
    inputs, targets = stream[:, :-1], stream[:, 1:]
    losses = model.fit([inputs, targets], targets, batch_size=4, epochs=150, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
