"""Products on torch, by each library that may compute them. All numbers are small integers, so results are exact."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
products = pytest.importorskip("keraslm.layers.kernels.product_torch")

LARGE = 800, 801  # more than 2**19 elements: packed where that pays
SHAPES = [(1, 1, 1), (3, 5, 2), (20, *LARGE), (20, *LARGE[::-1]), (0, 4, 3), (4, 0, 3), (4, 3, 0)]
TYPES = torch.float32, torch.bfloat16, torch.float64


@pytest.fixture(autouse=True)
def only_on_torch(backend):
    if backend != "torch":
        pytest.skip("products of torch")


@pytest.fixture(params=["the default library", "oneDNN"])
def library(request, monkeypatch):
    monkeypatch.setattr(products, "_mkl_is_slow", lambda: request.param == "oneDNN")
    if request.param == "oneDNN" and not products._works(True):
        pytest.skip("this torch cannot call oneDNN directly")


def matrices(shape, dtype, orders):
    """Matrices `(m, k)` and `(k, n)` of -1, 0 and 1, stored by rows ("C") or columns ("F"), and their product."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-1, 2, size).astype(np.float64) for size in ((m, k), (k, n)))
    stored = []
    for value, order in zip((a, b), orders, strict=True):
        found = torch.tensor(value).to(dtype)
        stored.append(found if order == "C" else found.t().contiguous().t())
    return *stored, a @ b


@pytest.mark.parametrize("orders", list(itertools.product("CF", repeat=2)), ids="".join)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_equal_numpy(library, shape, dtype, orders):
    a, b, expected = matrices(shape, dtype, orders)
    times = products.multiplier(b)
    for found in (products.mm(a, b), times(a), times(a)):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.double().numpy(), expected)


def test_a_float32_product_runs_where_mkl_is_slow(monkeypatch):
    monkeypatch.setattr(products, "_mkl_is_slow", lambda: True)
    if not products._works(False):
        pytest.skip("this torch cannot call oneDNN directly")
    called, linear = [], products._onednn
    monkeypatch.setattr(products, "_onednn", lambda *given: (called.append(len(given)), linear(*given))[1])
    a, b, _ = matrices((3, 5, 2), torch.float32, "CC")
    products.mm(a, b)
    products.multiplier(b)(a)
    products.mm(a.double(), b.double())
    assert called == [2, 2]


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, NotImplementedError])
def test_without_the_operators_torch_multiplies(monkeypatch, error):
    def missing(*_):
        raise error("no such operator")

    monkeypatch.setattr(products, "_onednn", missing)
    monkeypatch.setattr(products, "_mkl_is_slow", lambda: True)
    products._works.cache_clear()
    try:
        for dtype in TYPES:
            a, b, expected = matrices((20, *LARGE), dtype, "CC")
            for found in (products.mm(a, b), products.multiplier(b)(a)):
                np.testing.assert_array_equal(found.double().numpy(), expected)
    finally:
        products._works.cache_clear()


@pytest.mark.parametrize(
    ("processor", "mkl", "slow"),
    [
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, True, True),
        ({"avx512_f": False, "cpu_name": "AMD EPYC"}, True, False),
        ({"avx512_f": True, "cpu_name": "Intel(R) Xeon(R) Processor"}, True, False),
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, False, False),
        ({}, True, False),
    ],
)
def test_mkl_is_slow_on_other_processors_with_avx512(monkeypatch, processor, mkl, slow):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: processor, raising=False)
    monkeypatch.setattr("torch.backends.mkl.is_available", lambda: mkl)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: True)
    assert products._mkl_is_slow.__wrapped__() is slow
