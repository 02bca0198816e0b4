"""Updates of weights in torch: in place, over all weights at once where torch can. As `updates_jax`."""

from __future__ import annotations

from typing import Any

import keras
import torch

from keraslm.optimizers.base import AdamWStep


@torch.no_grad()
def with_norm(gradients: list[Any]) -> tuple[list[Any], Any]:
    gradients = [g.coalesce() if g.is_sparse else g for g in gradients]  # a word seen twice is one row
    values = [g.values() if g.is_sparse else g for g in gradients]
    return gradients, torch.stack(torch._foreach_norm(values)).norm()


@torch.no_grad()
def sgd(variables: list[keras.Variable], gradients: list[Any], rate: Any, factor: Any, decay: float) -> None:
    weights = [variable.value.data for variable in variables]
    step, kept = _number(-_tensor(rate) * factor), _number(1.0 - _tensor(rate) * decay)
    if decay:
        torch._foreach_mul_(weights, kept)
    if isinstance(step, float):  # `alpha` saves a pass
        dense = [pair for pair in zip(weights, gradients, strict=True) if not pair[1].is_sparse]
        if dense:
            torch._foreach_add_([w for w, _ in dense], [g for _, g in dense], alpha=step)
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient.is_sparse:
                weight.index_add_(0, gradient.indices()[0], gradient.values(), alpha=step)
        return
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient.is_sparse:
            weight.index_add_(0, gradient.indices()[0], gradient.values().mul_(step))
        else:
            weight.add_(gradient.mul_(step))


@torch.no_grad()
def adamw(
    variables: list[keras.Variable],
    gradients: list[Any],
    means: list[keras.Variable],
    squares: list[keras.Variable],
    step: AdamWStep,
) -> None:
    weights = [variable.value.data for variable in variables]
    dense = [(g.to_dense() if g.is_sparse else g).contiguous() for g in gradients]
    # One pass over the five arrays; torch divides the gradient by `grad_scale`.
    torch._fused_adamw_(
        weights,
        dense,
        [mean.value.data for mean in means],
        [square.value.data for square in squares],
        [],
        [step.number] * len(weights),
        lr=_number(_tensor(step.rate)),
        beta1=step.betas[0],
        beta2=step.betas[1],
        weight_decay=step.decay,
        eps=step.epsilon,
        amsgrad=False,
        maximize=False,
        grad_scale=1.0 / step.factor if isinstance(step.factor, torch.Tensor) else None,
        found_inf=None,
    )


@torch.no_grad()
def average(averages: list[keras.Variable], variables: list[keras.Variable], share: Any) -> None:
    torch._foreach_lerp_([mean.value.data for mean in averages], [v.value.data for v in variables], _number(share))


def _tensor(rate: Any) -> Any:
    return rate.value if isinstance(rate, keras.Variable) else torch.as_tensor(rate)


def _number(value: Any) -> Any:
    """A Python number on the CPU, where there is nothing to wait for; elsewhere what was given."""
    return float(value) if value.device.type == "cpu" else value
