import ctypes
import sys

import numpy as np
import pytest

from keraslm.errors import ConfigError
from keraslm.training.machine import check_dtype, keep_freed_memory

with_bfloat16 = {"architecture": "x86_64", "avx512_bf16": True, "avx2": True}
without = {"architecture": "x86_64", "avx512_bf16": False, "avx2": True}


@pytest.fixture
def no_gpu(backend, monkeypatch):
    """As on a machine without a GPU, whatever this one has."""
    if backend == "torch":
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    elif backend == "jax":
        monkeypatch.setattr("jax.default_backend", lambda: "cpu")
    else:
        monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])


def test_float32_is_never_refused(no_gpu):
    check_dtype("float32")


def test_bfloat16_is_refused_where_it_would_be_slower(backend, no_gpu, monkeypatch):
    if backend == "torch":
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: without)
    with pytest.raises(ConfigError, match=r"only be slower on this machine: .*\. Use --dtype float32"):
        check_dtype("bfloat16")


def test_bfloat16_is_taken_where_the_processor_has_it(backend, no_gpu, monkeypatch):
    if backend != "torch":
        pytest.skip("only torch has fast bfloat16 products on a processor")
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: with_bfloat16)
    check_dtype("bfloat16")


def test_bfloat16_is_taken_where_there_is_a_gpu_that_has_it(backend, monkeypatch):
    if backend == "torch":
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    elif backend == "jax":
        monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    else:
        monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [kind])
    check_dtype("bfloat16")


class Library:
    """A C library that writes down how malloc was set."""

    def __init__(self, glibc=True):
        self.calls = []
        if glibc:
            self.gnu_get_libc_version = None
            self.mallopt = lambda *arguments: self.calls.append(arguments)


@pytest.mark.parametrize(("platform", "glibc"), [("linux", True), ("linux", False), ("darwin", True)])
def test_malloc_is_set_on_glibc_only_and_left_to_tensorflow_on_tensorflow(backend, monkeypatch, platform, glibc):
    library = Library(glibc)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", platform)
    keep_freed_memory()
    expected = [(-4, 0), (-1, 2**31 - 1)]  # M_MMAP_MAX, M_TRIM_THRESHOLD
    assert library.calls == (expected if backend != "tensorflow" and platform == "linux" and glibc else [])


def test_the_process_goes_on():
    keep_freed_memory()
    for _ in range(3):
        assert np.ones(10**7).sum() == 10**7
