"""What depends on the machine: where bfloat16 pays, and how memory is handed back."""

from __future__ import annotations

import ctypes
import sys

import keras

from keraslm.errors import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def check_dtype(dtype: str) -> None:
    """Refuse bfloat16 where it would only be slower.

    Args:
        dtype: of the operands of matrix products, "float32" or "bfloat16".

    Raises:
        ConfigError: with the reason, and what to use instead.
    """
    reason = "" if dtype == "float32" else _WHY_NOT_BFLOAT16[keras.backend.backend()]()
    if reason:
        raise ConfigError(
            f"--dtype bfloat16 would only be slower on this machine: {reason} "
            "Use --dtype float32, or a machine where torch has bfloat16."
        )


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next arrays, where the C library is glibc.

    By default glibc gives large arrays back to the system when they are freed. A training step frees and takes the same
    arrays again and again, and pays each time for new pages, which the system clears first. TensorFlow's data pipeline
    sets these limits itself, to other values.
    """
    if keras.backend.backend() == "tensorflow" or not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _torch_without_bfloat16() -> str:
    import torch

    if torch.cuda.is_available():
        return "" if torch.cuda.is_bf16_supported() else "its GPU has no bfloat16 products."
    able = torch.cpu.get_capabilities()
    if any(value is True and "bf16" in name for name, value in able.items()):
        return ""
    return "its processor has no bfloat16 instructions."


def _jax_without_bfloat16() -> str:
    import jax

    return "XLA has no fast bfloat16 product on a CPU." if jax.default_backend() == "cpu" else ""


def _tensorflow_without_bfloat16() -> str:
    import tensorflow

    return "" if tensorflow.config.list_physical_devices("GPU") else "TensorFlow has no fast bfloat16 loop on a CPU."


_WHY_NOT_BFLOAT16 = {
    "torch": _torch_without_bfloat16,
    "jax": _jax_without_bfloat16,
    "tensorflow": _tensorflow_without_bfloat16,
}
