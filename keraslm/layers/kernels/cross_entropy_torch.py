"""Projection and cross entropy on torch, with one array of `N x V` where autograd keeps three.

Letters: `N` tokens, `H` units, `V` vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from keraslm.layers.kernels.pieces import rows_of_a_piece


def cross_entropy(
    hidden: Tensor,
    kernel: Tensor,
    bias: Tensor,
    targets: Tensor,
    product_dtype: str = "float32",
    transposed: bool = False,
) -> Tensor:
    """`dispatch.cross_entropy` for tensors of torch."""
    # Time first, as the LSTM leaves it in memory: the reshape below then copies nothing.
    rows = hidden.transpose(0, 1)
    low = torch.bfloat16 if product_dtype == "bfloat16" else hidden.dtype
    flat, ids = rows.reshape(-1, hidden.shape[-1]), targets.t().reshape(-1)
    nats = _Nats.apply(flat, kernel, bias, ids, low, transposed, torch.is_grad_enabled())
    return nats.view(rows.shape[:2]).t()


class _Nats(torch.autograd.Function):
    """Nats of each target, `(N,)`.

    The gradient of the logits, `softmax - one_hot`, takes the place of the logits in the forward pass; the backward
    pass scales the narrow sides of its two products by the incoming gradient instead of the wide array. Where that
    array would pass the budget of `pieces`, it is not kept: the backward pass computes it again, piece by piece.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        kernel: Tensor,
        bias: Tensor,
        targets: Tensor,
        low: torch.dtype,
        transposed: bool,
        with_gradient: bool,
    ) -> Tensor:
        kernel_low, targets = kernel.to(low), targets.long()
        kernel_low = kernel_low.t() if transposed else kernel_low
        rows = rows_of_a_piece(len(hidden), len(bias))
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
            # In the memory order of the kernel itself: a gradient in another one would be copied.
            sides = (dlogits.t(), own_scaled) if ctx.transposed else (own_scaled.t(), dlogits)
            product = torch.mm(*sides).to(bias.dtype)
            dkernel = product if dkernel.ndim == 0 else dkernel.add_(product)
            dbias += torch.mv(dlogits.t(), own_dnats.to(low))
            dhidden.append(torch.mm(dlogits, kernel_low.t()).to(bias.dtype).mul_(own_dnats[:, None]))
        return torch.cat(dhidden), dkernel, dbias, None, None, None, None


def _log_softmax(hidden: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """`(n, V)`, in the bias' type."""
    # Not `addmm`, which first writes the bias to every row: a pass over memory that is not in the cache yet.
    logits = torch.mm(hidden, kernel).to(bias.dtype).add_(bias)
    return torch.log_softmax(logits, 1, out=logits)


def _minus_target(log_p: Tensor, targets: Tensor) -> Tensor:
    """`exp(log_p)` less 1 at each target, in the place of `log_p`."""
    p = log_p.exp_()
    p[torch.arange(len(targets), device=targets.device), targets] -= 1.0
    return p
