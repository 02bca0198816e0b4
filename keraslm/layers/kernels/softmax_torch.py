"""Cross entropy and the tails of an adaptive softmax on torch.

Shapes: `N` tokens, `H` units, `V` vocabulary, `n` tokens of a piece or a cluster.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from keraslm.layers.kernels import rows_per_piece
from keraslm.layers.kernels.product_torch import mm

Weights = tuple[Tensor, Tensor, Tensor]  # projection, kernel, bias
_CACHE = 2**18  # logits that stay in a processor's cache from one operation to the next
_LEAST_ROWS = 16  # the rows are shared among the threads


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
            own, dlogits = _softmax_cost(piece, kernel_low, bias, ids)
            nats.append(own)
            if with_gradient and rows >= len(hidden):
                kept = dlogits
            del dlogits
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
                dlogits = _softmax_cost(own_hidden.to(low), kernel_low, bias, ids)[1]
            # In the memory order of the kernel; otherwise the gradient would be copied.
            sides = (dlogits.t(), own_scaled) if ctx.transposed else (own_scaled.t().contiguous(), dlogits)
            product = mm(*sides).to(bias.dtype)
            dkernel = product if dkernel.ndim == 0 else dkernel.add_(product)
            dbias += torch.mv(dlogits.t(), own_dnats.to(low))
            dhidden.append(mm(dlogits, kernel_low.t()).to(bias.dtype).mul_(own_dnats[:, None]))
        return None, None, None, torch.cat(dhidden), dkernel, dbias, None


def _softmax_cost(hidden: Tensor, kernel: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Nats `(n,)` in the type of the bias, and the gradient of their sum with respect to the logits, `(n, V)`."""
    logits = mm(hidden, kernel)
    nats = torch.empty_like(targets, dtype=bias.dtype)
    rows = max(_LEAST_ROWS, _CACHE // len(bias)) if logits.device.type == "cpu" else max(1, len(logits))
    # One exponential per logit: the largest probability of a row is 1 / sum(exp(logits - max(logits))).
    for part, ids, out in zip(logits.split(rows), targets.split(rows), nats.split(rows), strict=True):
        p = part.to(bias.dtype).add_(bias)  # `part` itself, if the types are equal
        margin = p.amax(1) - p.gather(1, ids[:, None])[:, 0]
        torch.softmax(p, 1, out=p)
        torch.sub(margin, p.amax(1).log_(), out=out)
        p[torch.arange(len(ids), device=ids.device), ids] -= 1.0
        if p is not part:
            part.copy_(p)
    return nats, logits
