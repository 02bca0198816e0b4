"""The LSTM over a window on torch: two loops of few operations, and every large product outside them.

Autograd of the plain loop would record a dozen operations a step and add a rank-B product to both weight gradients at
each one. Here the backward loop computes only what depends on the step after it, the gradient of the gates; the
gradients of the weights are one product each over the whole window. On a CPU this beats oneDNN's LSTM, which wants its
weights transposed (see `benchmarks/README.md`); on a GPU cuDNN runs instead, where no mask and no reset forbids it.

Letters: `T` steps, `B` rows, `D` inputs, `H` units. Time comes first in every array here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_aten = torch.ops.aten


def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
    mask: Tensor | None = None,
    keep: Tensor | None = None,
    product_dtype: str = "float32",
) -> tuple[Tensor, Tensor, Tensor]:
    """`dispatch.lstm` for batch-first tensors of torch."""
    x = x.transpose(0, 1)
    keep = None if keep is None else keep.t().unsqueeze(2).to(x.dtype)  # [T, B, 1]
    if uses_cudnn(x, mask, keep, product_dtype):
        h, h_last, c_last = native(x, h0, c0, kernel, recurrent_kernel, bias)
    else:
        low = torch.bfloat16 if product_dtype == "bfloat16" else x.dtype
        h, h_last, c_last = _Window.apply(x, h0, c0, kernel, recurrent_kernel, bias, mask, keep, low)
    return h.transpose(0, 1), h_last, c_last


def uses_cudnn(x: Tensor, mask: Tensor | None, keep: Tensor | None, product_dtype: str) -> bool:
    """Whether cuDNN can run this window: on a GPU, in float32, with nothing done to the state between steps."""
    return x.is_cuda and mask is None and keep is None and product_dtype == "float32"


def native(x: Tensor, h0: Tensor, c0: Tensor, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor) -> Any:
    """torch's own LSTM, time first: cuDNN on a GPU, oneDNN on a CPU. Its gates are in Keras' order."""
    weights = [kernel.t().contiguous(), recurrent_kernel.t().contiguous(), bias, torch.zeros_like(bias)]
    h, h_last, c_last = torch.lstm(
        x, (h0.unsqueeze(0), c0.unsqueeze(0)), weights, True, 1, 0.0, torch.is_grad_enabled(), False, False
    )
    return h, h_last[0], c_last[0]


class _Window(torch.autograd.Function):
    """h of all steps, and the last h and c, with a backward pass written by hand."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h0: Tensor,
        c0: Tensor,
        kernel: Tensor,
        recurrent_kernel: Tensor,
        bias: Tensor,
        mask: Tensor | None,
        keep: Tensor | None,
        low: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, batch, inputs = x.shape
        units = h0.shape[1]
        x_low, recurrent_low = x.reshape(steps * batch, inputs).to(low), recurrent_kernel.to(low)
        gates = _product(x_low, kernel.to(low), bias).view(steps, batch, 4 * units)
        h, c = _with_first(h0, steps), _with_first(c0, steps)  # [T + 1, B, H]: before each step, and after the last
        tanh_c = torch.empty_like(h[1:])
        h_factor = _h_factor(mask, keep, steps)
        _forward_loop(gates, h, c, tanh_c, recurrent_low, h_factor, keep)
        ctx.save_for_backward(x_low, kernel, recurrent_low, gates, h, c, tanh_c, h_factor, keep)
        # Copies, as each is assigned to a variable that outlives the window's arrays.
        return h[1:], h[-1].clone(), c[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor, dh_last: Tensor, dc_last: Tensor) -> tuple[Any, ...]:
        x_low, kernel, recurrent_low, gates, h, c, tanh_c, h_factor, keep = ctx.saved_tensors
        low = x_low.dtype
        steps, batch, units = tanh_c.shape
        c_before = c[:-1] if keep is None else c[:-1] * keep
        h_before = h[:-1] if h_factor is None else h[:-1] * h_factor
        dz, dc_dh = _gate_factors(gates, c_before, tanh_c)
        f = gates[:, :, units : 2 * units]
        dc_factor = f if keep is None else f * keep
        dz, dh0, dc0 = _backward_loop(dz, dc_dh, dc_factor, dh, dh_last, dc_last, recurrent_low, h_factor)
        dz_low = dz.view(steps * batch, 4 * units)
        dkernel = torch.mm(x_low.t(), dz_low).to(kernel.dtype)
        drecurrent = torch.mm(h_before.reshape(steps * batch, units).to(low).t(), dz_low).to(kernel.dtype)
        dbias = dz_low.sum(0, dtype=kernel.dtype)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.mm(dz_low, kernel.to(low).t()).to(kernel.dtype).view(steps, batch, -1)
        return dx, dh0, dc0, dkernel, drecurrent, dbias, None, None, None


def _forward_loop(
    gates: Tensor, h: Tensor, c: Tensor, tanh_c: Tensor, recurrent: Tensor, h_factor: Tensor | None, keep: Tensor | None
) -> None:
    """Fill `h`, `c` and `tanh_c`; turn `gates` from the input's share of z into the values of i, f, g and o."""
    units = h.shape[2]
    # Each slice is made once for all steps: inside the loop it would cost as much as the arithmetic of a small model.
    z, hs, cs, tanhs = gates.unbind(0), h.unbind(0), c.unbind(0), tanh_c.unbind(0)
    i_and_f = gates[:, :, : 2 * units].unbind(0)
    i, f, g, o = (part.unbind(0) for part in gates.split(units, 2))
    for t in range(len(tanhs)):
        h_before = hs[t] if h_factor is None else hs[t] * h_factor[t]
        c_before = cs[t] if keep is None else cs[t] * keep[t]
        if recurrent.dtype == h.dtype:
            z[t].addmm_(h_before, recurrent)
        else:
            z[t].add_(torch.mm(h_before.to(recurrent.dtype), recurrent))
        i_and_f[t].sigmoid_()
        g[t].tanh_()
        o[t].sigmoid_()
        torch.mul(f[t], c_before, out=cs[t + 1]).addcmul_(i[t], g[t])
        torch.tanh(cs[t + 1], out=tanhs[t])
        torch.mul(o[t], tanhs[t], out=hs[t + 1])


def _gate_factors(gates: Tensor, c_before: Tensor, tanh_c: Tensor) -> tuple[Tensor, Tensor]:
    """What does not depend on later steps: dz over dc (for o: over dh), `[T, B, 4H]`, and dc over dh, `[T, B, H]`."""
    factors = torch.empty_like(gates)
    units = tanh_c.shape[2]
    i, f, g, o = gates.split(units, 2)
    of_i, of_f, of_g, of_o = factors.split(units, 2)
    _aten.sigmoid_backward.grad_input(g, i, grad_input=of_i)  # g * i * (1 - i), in one pass
    _aten.sigmoid_backward.grad_input(c_before, f, grad_input=of_f)
    _aten.tanh_backward.grad_input(i, g, grad_input=of_g)  # i * (1 - g ** 2)
    _aten.sigmoid_backward.grad_input(tanh_c, o, grad_input=of_o)
    return factors, _aten.tanh_backward(o, tanh_c)


def _backward_loop(
    dz: Tensor,
    dc_dh: Tensor,
    dc_factor: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    dc_last: Tensor,
    recurrent: Tensor,
    h_factor: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn the factors in `dz` into the gradient of z; return it in the products' type, with dh0 and dc0."""
    steps, batch, units = dc_dh.shape
    dz_low = dz if recurrent.dtype == dz.dtype else torch.empty_like(dz, dtype=recurrent.dtype)
    of_ifg = dz[:, :, : 3 * units].view(steps, batch, 3, units).unbind(0)
    of_o = dz[:, :, 3 * units :].unbind(0)
    dzs, dzs_low, dhs, dc_dhs, dc_factors = (a.unbind(0) for a in (dz, dz_low, dh, dc_dh, dc_factor))
    transposed = recurrent.t()
    dh_here, dc = dhs[-1] + dh_last, dc_last.clone()
    dc_of_ifg = dc.unsqueeze(1)
    for t in reversed(range(steps)):
        dc.addcmul_(dh_here, dc_dhs[t])
        of_ifg[t].mul_(dc_of_ifg)
        of_o[t].mul_(dh_here)
        dc.mul_(dc_factors[t])
        if dz_low is not dz:
            dzs_low[t].copy_(dzs[t])
        if t > 0 and h_factor is None and dz_low is dz:
            dh_here = torch.addmm(dhs[t - 1], dzs[t], transposed)
            continue
        dh_here = torch.mm(dzs_low[t], transposed).to(dz.dtype)
        if h_factor is not None:
            dh_here *= h_factor[t]
        if t > 0:
            dh_here += dhs[t - 1]
    return dz_low, dh_here, dc


def _product(a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
    """`a @ b + bias` in the bias' type, whatever that of the product."""
    if a.dtype == bias.dtype:
        return torch.addmm(bias, a, b)
    return torch.mm(a, b).to(bias.dtype).add_(bias)


def _with_first(first: Tensor, steps: int) -> Tensor:
    whole = first.new_empty(steps + 1, *first.shape)
    whole[0] = first
    return whole


def _h_factor(mask: Tensor | None, keep: Tensor | None, steps: int) -> Tensor | None:
    """Factor on h before each step, `[T, B, H]`, from the mask `[B, H]` and `keep` `[T, B, 1]`."""
    if mask is None:
        return keep
    return mask.expand(steps, -1, -1) if keep is None else mask * keep
