"""Updates of weights on torch: the functions of `updates_jax`, in place."""

from __future__ import annotations

from typing import Any

import keras
import torch


@torch.no_grad()
def with_norm(gradients: list[Any]) -> tuple[list[Any], Any]:
    gradients = [g.coalesce() if g.is_sparse else g for g in gradients]  # a word that occurs twice is one row
    values = [g.values() if g.is_sparse else g for g in gradients]
    return gradients, torch.stack(torch._foreach_norm(values)).norm()


@torch.no_grad()
def sgd(optimizer: Any, variables: list[Any], gradients: list[Any], rate: Any, factor: Any) -> None:
    weights, decay = _values(variables), optimizer.decay
    step, kept = _number(-_tensor(rate) * factor), _number(1.0 - _tensor(rate) * decay)
    if decay:
        torch._foreach_mul_(weights, kept)
    on_cpu = isinstance(step, float)  # then `alpha` saves a pass
    dense = []
    for weight, gradient in zip(weights, gradients, strict=True):
        if not gradient.is_sparse:
            dense.append((weight, gradient))
        elif on_cpu:
            weight.index_add_(0, gradient.indices()[0], gradient.values(), alpha=step)
        else:
            weight.index_add_(0, gradient.indices()[0], gradient.values().mul_(step))
    if on_cpu and dense:
        torch._foreach_add_([w for w, _ in dense], [g for _, g in dense], alpha=step)
    else:
        for weight, gradient in dense:
            weight.add_(gradient.mul_(step))


@torch.no_grad()
def adamw(optimizer: Any, variables: list[Any], gradients: list[Any], rate: Any, factor: Any) -> None:
    dense = [(g.to_dense() if g.is_sparse else g).contiguous() for g in gradients]
    means, squares = map(_values, optimizer.moments(variables))
    # One pass over all arrays; torch divides the gradient by `grad_scale`.
    torch._fused_adamw_(
        _values(variables),
        dense,
        means,
        squares,
        [],
        [(optimizer.iterations.value + 1).float()] * len(dense),
        lr=_number(_tensor(rate)),
        beta1=optimizer.betas[0],
        beta2=optimizer.betas[1],
        weight_decay=optimizer.decay,
        eps=optimizer.epsilon,
        amsgrad=False,
        maximize=False,
        grad_scale=1.0 / factor if isinstance(factor, torch.Tensor) else None,
        found_inf=None,
    )


@torch.no_grad()
def average(averages: list[Any], variables: list[Any], share: Any) -> None:
    torch._foreach_lerp_(_values(averages), _values(variables), _number(share))


@torch.no_grad()
def accumulate(optimizer: Any, variables: list[Any], gradients: list[Any], sums: list[Any]) -> None:
    totals = _values(sums)
    for total, gradient in zip(totals, gradients, strict=True):
        total.add_(gradient)
    part = int(optimizer.part.value) + 1
    if part == optimizer.accumulate:
        torch._foreach_div_(totals, part)
        optimizer.step(variables, totals)
        torch._foreach_zero_(totals)
        part = 0
    optimizer.part.assign(part)


def _values(variables: list[Any]) -> list[Any]:
    return [variable.value.data for variable in variables]


def _tensor(rate: Any) -> Any:
    return rate.value if isinstance(rate, keras.Variable) else torch.as_tensor(rate)


def _number(value: Any) -> Any:
    """A Python number on the CPU, where reading it does not wait for a device; otherwise the tensor itself."""
    return float(value) if value.device.type == "cpu" else value
