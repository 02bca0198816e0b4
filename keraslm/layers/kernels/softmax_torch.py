"""Cross entropy and the tails of an adaptive softmax on torch.

Shapes: `N` tokens, `H` units, `V` vocabulary, `n` tokens of a piece or a cluster.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from keraslm.layers.kernels import rows_per_piece

Weights = tuple[Tensor, Tensor, Tensor]  # projection, kernel, bias


def cross_entropy(
    hidden: Tensor, kernel: Tensor, bias: Tensor, targets: Tensor, low: str, transposed: bool = False
) -> Tensor:
    """`dispatch.cross_entropy` for `(N, H)` and `(N,)`."""
    return _Nats.apply(getattr(torch, low), transposed, torch.is_grad_enabled(), hidden, kernel, bias, targets)


def add_tail(nats: Tensor, hidden: Tensor, tail: Weights, targets: Tensor, member: Tensor, low: str) -> Tensor:
    """Add the cost within a cluster to the nats `(N,)` of its members; see `dispatch.adaptive_cross_entropy`."""
    projection, kernel, bias = tail
    places, dtype = torch.nonzero(member)[:, 0], getattr(torch, low)  # [n]
    narrow = torch.mm(hidden.index_select(0, places).to(dtype), projection.to(dtype)).to(hidden.dtype)  # [n, d]
    return nats.index_add(0, places, cross_entropy(narrow, kernel, bias, targets[places], low))


class _Nats(torch.autograd.Function):
    """Nats of each target, `(N,)`.

    The forward pass overwrites the logits with their gradient, `softmax - one_hot`. Beyond the budget, that array is
    not kept: the backward pass computes it again, piece by piece.
    """

    @staticmethod
    def forward(ctx: Any, low: torch.dtype, transposed: bool, with_gradient: bool, *arrays: Tensor) -> Tensor:
        hidden, kernel, bias, targets = arrays
        kernel_low, targets = kernel.to(low), targets.long()
        kernel_low = kernel_low.t() if transposed else kernel_low
        rows = rows_per_piece(len(hidden), len(bias))
        nats, kept = [], None
        for piece, ids in zip(hidden.to(low).split(rows), targets.split(rows), strict=True):
            log_p = _log_softmax(piece, kernel_low, bias)
            nats.append(-log_p.gather(1, ids[:, None])[:, 0])
            if with_gradient and rows >= len(hidden):
                kept = _minus_target(log_p, ids).to(low)
            del log_p
        ctx.rows, ctx.transposed = rows, transposed
        ctx.save_for_backward(hidden, kernel_low, bias, targets, kept)
        return torch.cat(nats)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dnats: Tensor) -> tuple[Any, ...]:
        hidden, kernel_low, bias, targets, kept = ctx.saved_tensors
        low = kernel_low.dtype
        scaled = (hidden * dnats[:, None]).to(low)
        dkernel, dbias, dhidden = torch.zeros((), dtype=bias.dtype, device=bias.device), torch.zeros_like(bias), []
        pieces = zip(*(a.split(ctx.rows) for a in (hidden, scaled, dnats, targets)), strict=True)
        for own_hidden, own_scaled, own_dnats, ids in pieces:
            dlogits = kept
            if dlogits is None:
                dlogits = _minus_target(_log_softmax(own_hidden.to(low), kernel_low, bias), ids).to(low)
            # In the memory order of the kernel; otherwise the gradient would be copied.
            sides = (dlogits.t(), own_scaled) if ctx.transposed else (own_scaled.t(), dlogits)
            product = torch.mm(*sides).to(bias.dtype)
            dkernel = product if dkernel.ndim == 0 else dkernel.add_(product)
            dbias += torch.mv(dlogits.t(), own_dnats.to(low))
            dhidden.append(torch.mm(dlogits, kernel_low.t()).to(bias.dtype).mul_(own_dnats[:, None]))
        return None, None, None, torch.cat(dhidden), dkernel, dbias, None


def _log_softmax(hidden: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Log-probabilities `(n, V)` of the type of the bias."""
    # Faster than `addmm`, which first writes the bias to every row.
    logits = torch.mm(hidden, kernel).to(bias.dtype).add_(bias)
    return torch.log_softmax(logits, 1, out=logits)


def _minus_target(log_p: Tensor, targets: Tensor) -> Tensor:
    """`exp(log_p)` minus 1 at each target; overwrites `log_p`."""
    p = log_p.exp_()
    p[torch.arange(len(targets), device=targets.device), targets] -= 1.0
    return p
