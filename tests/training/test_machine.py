"""Where bfloat16 is refused, and how malloc is configured."""

import ctypes
import sys

import numpy as np
import pytest

from keraslm.errors import ConfigError
from keraslm.training.machine import check_dtype, keep_freed_memory


@pytest.fixture
def machine(backend, monkeypatch):
    """Simulate a machine with or without a GPU, and a processor with or without bfloat16."""

    def simulate(gpu, cpu_bfloat16=False):
        if backend == "torch":
            monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
            monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
            capabilities = {"architecture": "x86_64", "avx512_bf16": cpu_bfloat16, "avx2": True}
            monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
        elif backend == "jax":
            monkeypatch.setattr("jax.default_backend", lambda: "gpu" if gpu else "cpu")
        else:
            monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [kind] if gpu else [])

    return simulate


def test_bfloat16_is_refused_if_it_would_be_slower(machine):
    machine(gpu=False)
    check_dtype("float32")
    with pytest.raises(ConfigError, match=r'only be slower on this machine: .*\. Use `dtype="float32"`'):
        check_dtype("bfloat16")


def test_bfloat16_is_accepted_on_a_gpu_and_on_a_processor_that_has_it(machine, backend):
    machine(gpu=True)
    check_dtype("bfloat16")
    if backend == "torch":  # the others have no fast bfloat16 products on a processor
        machine(gpu=False, cpu_bfloat16=True)
        check_dtype("bfloat16")


class Library:
    """A C library that records how malloc was configured."""

    def __init__(self, glibc=True):
        self.calls = []
        if glibc:
            self.gnu_get_libc_version = None
            self.mallopt = lambda *arguments: self.calls.append(arguments)


@pytest.mark.parametrize(("platform", "glibc"), [("linux", True), ("linux", False), ("darwin", True)])
def test_malloc_is_configured_on_glibc(monkeypatch, platform, glibc):
    library = Library(glibc)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", platform)
    keep_freed_memory()
    expected = [(-8, 1), (-4, 0), (-1, 2**31 - 1)]  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD
    assert library.calls == (expected if platform == "linux" and glibc else [])


def test_memory_can_be_allocated_afterwards():
    keep_freed_memory()
    for _ in range(3):
        assert np.ones(10**7).sum() == 10**7
