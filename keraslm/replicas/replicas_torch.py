"""Replicas on torch: the processes of `torch.distributed`, while they train together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

_together = False


@contextmanager
def together() -> Iterator[None]:
    """Within the block, all processes compute the same steps; outside, one of them may evaluate a model alone."""
    global _together
    _together = True
    try:
        yield
    finally:
        _together = False


def count() -> int:
    return distributed.get_world_size() if _together else 1


def index() -> int:
    return distributed.get_rank()


@torch.no_grad()
def total(values: list[Any]) -> list[Any]:
    sums = torch.stack([value.detach() for value in values])
    distributed.all_reduce(sums)
    return list(sums)


def share_of(loss: Any) -> Any:
    return loss


@torch.no_grad()
def reduced(gradients: list[Any]) -> list[Any]:
    """All dense gradients travel in one message; of a sparse one, the rows that each process looked up."""
    dense = [g for g in gradients if not g.is_sparse]
    flat = torch.cat([g.reshape(-1) for g in dense]) if dense else torch.empty(0)
    if dense:
        distributed.all_reduce(flat)
        flat.div_(count())
    parts = iter(flat.split([g.numel() for g in dense]))
    return [_gathered(g) if g.is_sparse else next(parts).view(g.shape) for g in gradients]


def _gathered(gradient: Any) -> Any:
    """The mean of sparse gradients: each process has looked up the same number of rows."""
    rows, values = gradient._indices().contiguous(), gradient._values().contiguous()
    all_rows, all_values = ([torch.empty_like(part) for _ in range(count())] for part in (rows, values))
    distributed.all_gather(all_rows, rows)
    distributed.all_gather(all_values, values)
    mean = torch.cat(all_values).div_(count())
    return torch.sparse_coo_tensor(torch.cat(all_rows, dim=1), mean, gradient.shape, check_invariants=False)
