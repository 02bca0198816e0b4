"""Adaptive softmax and cross entropy on torch: the cross entropy of `cross_entropy_torch` for the head and each tail.

Letters: `N` tokens, `H` units, `n` tokens of a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from keraslm.layers.kernels.cross_entropy_torch import cross_entropy

Tail = tuple[Tensor, Tensor, Tensor]  # projection, kernel, bias


def adaptive_cross_entropy(
    hidden: Tensor,
    head: tuple[Tensor, Tensor],
    tails: Sequence[Tail],
    targets: Tensor,
    ends: Sequence[int],
    product_dtype: str = "float32",
) -> Tensor:
    """`dispatch.adaptive_cross_entropy` for tensors of torch."""
    rows = hidden.transpose(0, 1)  # time first, as the LSTM leaves it in memory
    flat, ids = rows.reshape(-1, hidden.shape[-1]), targets.t().reshape(-1).long()  # [N, H], [N]
    low = torch.bfloat16 if product_dtype == "bfloat16" else hidden.dtype
    members = [torch.nonzero((ids >= start) & (ids < end))[:, 0] for start, end in pairwise(ends)]  # [n] each
    in_head = ids.clone()
    for cluster, member in enumerate(members):
        in_head[member] = ends[0] + cluster
    nats = cross_entropy(flat[None], *head, in_head[None], product_dtype)[0]
    for (projection, kernel, bias), member, start in zip(tails, members, ends, strict=False):
        narrow = torch.mm(flat.index_select(0, member).to(low), projection.to(low)).to(hidden.dtype)  # [n, d]
        own = cross_entropy(narrow[None], kernel, bias, ids[member][None] - start, product_dtype)[0]
        nats = nats.index_add(0, member, own)
    return nats.view(rows.shape[:2]).t()
