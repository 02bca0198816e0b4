"""Settings that depend on the machine: whether bfloat16 is fast, and how freed memory is reused."""

from __future__ import annotations

import ctypes
import sys

import keras

from keraslm.errors import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # from malloc.h of glibc


def check_dtype(dtype: str) -> None:
    """Raise `ConfigError` if bfloat16 would only be slower on this backend and machine."""
    if dtype == "bfloat16" and (reason := _why_not_bfloat16()):
        raise ConfigError(
            f'`dtype="bfloat16"` would only be slower on this machine: {reason} '
            'Use `dtype="float32"`, or a machine where torch supports bfloat16.'
        )


def _why_not_bfloat16() -> str:
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return "XLA has no fast bfloat16 product on a CPU." if jax.default_backend() == "cpu" else ""
    if backend == "tensorflow":
        import tensorflow

        has_gpu = tensorflow.config.list_physical_devices("GPU")
        return "" if has_gpu else "TensorFlow has no fast bfloat16 loop on a CPU."
    import torch

    if torch.cuda.is_available():
        return "" if torch.cuda.is_bf16_supported() else "its GPU has no bfloat16 products."
    supported = any(value is True and "bf16" in name for name, value in torch.cpu.get_capabilities().items())
    return "" if supported else "its processor has no bfloat16 instructions."


def keep_freed_memory() -> None:
    """Reuse freed memory for the next arrays instead of returning it to the system, if the C library is glibc.

    Each training step allocates the same arrays, and new pages are slow: they took 15 % of a step of Zaremba's medium
    model on JAX. All threads share one heap, because the others are returned to the system whenever they are empty.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
