"""A step function over time on torch: a loop of Python, which autograd records step by step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def scan(
    step: Callable[[State, Tensor], State], state: State, inputs: Tensor, keep: Tensor | None = None
) -> tuple[Tensor, State]:
    """`dispatch.scan` for batch-first tensors of torch."""
    # Slices made once for all steps: the gradient of `unbind` is one stack, that of `inputs[:, t]` a whole window each.
    xs = inputs.unbind(1)
    kept = None if keep is None else keep.unsqueeze(2).unbind(1)  # [B, 1] each
    outputs = []
    for t, x in enumerate(xs):
        if kept is not None:
            state = tuple(value * kept[t] for value in state)
        state = tuple(step(state, x))
        outputs.append(state[0])
    return torch.stack(outputs, 1), state
