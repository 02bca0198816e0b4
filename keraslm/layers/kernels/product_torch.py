"""Matrix products on torch, by oneDNN where torch's default is slow.

torch multiplies float32 matrices on a CPU with Intel's MKL, whose AVX-512 code runs on Intel's processors only. On
others, oneDNN, which torch contains too, is up to eight times as fast. And a bfloat16 product of few rows spends half
its time on rearranging the weights, which `multiplier` does once for many products (`benchmarks/README.md`).

Both use operators that torch's compiler emits and torch does not document. They are tried once per process, and
`torch.mm` replaces them where they fail. No function here can be differentiated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def mm(a: Tensor, b: Tensor) -> Tensor:
    """Compute `a @ b`."""
    return _onednn(a, b.t()) if _uses_onednn(a) else torch.mm(a, b)


def multiplier(b: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function that computes `a @ b`, for many matrices `a` of few rows."""
    weights = b.t()
    if _can_pack(b):
        packed = torch.ops.mkldnn._reorder_linear_weight(weights.contiguous(), None)
        return lambda a: _onednn(a, packed)
    return (lambda a: _onednn(a, weights)) if _uses_onednn(b) else (lambda a: torch.mm(a, b))


def _uses_onednn(a: Tensor) -> bool:
    """Whether `mm` uses oneDNN for operands like `a`; torch itself uses it for bfloat16."""
    return a.dtype == torch.float32 and a.device.type == "cpu" and a.numel() > 0 and _mkl_is_slow() and _works(False)


def _can_pack(b: Tensor) -> bool:
    # Packing a small matrix, or a float32 one in the other memory order, takes longer than it saves.
    pays = b.numel() > 2**19 and (b.dtype == torch.bfloat16 or (_uses_onednn(b) and b.t().is_contiguous()))
    return pays and b.device.type == "cpu" and torch.backends.mkldnn.is_available() and _works(True)


def _onednn(a: Tensor, weights: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, weights, None, "none", [], "")


@cache
def _mkl_is_slow() -> bool:
    """Whether the processor has AVX-512 but MKL does not use it."""
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    processor = torch.cpu.get_capabilities() if libraries and hasattr(torch.cpu, "get_capabilities") else {}
    return bool(processor.get("avx512_f")) and "Intel" not in processor.get("cpu_name", "Intel")


@cache
def _works(pack: bool) -> bool:
    """Whether the undocumented operators exist and compute a product."""
    a, weights = torch.arange(6.0).reshape(2, 3), torch.arange(12.0).reshape(4, 3)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weights, None) if pack else weights
        return torch.equal(_onednn(a, packed), torch.mm(a, weights.t()))
    except (AttributeError, RuntimeError, TypeError):
        return False
