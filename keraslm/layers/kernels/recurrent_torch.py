"""LSTM and scan on torch. Arrays of the LSTM are time first: `[T, B, H]`.

The backward pass is that of `recurrent_jax`. On a CPU this is faster than oneDNN's LSTM, which needs transposed weights
(see `benchmarks/README.md`). On a GPU, cuDNN runs instead if it can.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from keraslm.layers.kernels.product_torch import mm, multiplier

State = tuple[Tensor, ...]
NO_GPU = "needs a GPU"
_aten = torch.ops.aten


def lstm(
    x: Tensor, h0: Tensor, c0: Tensor, weights: State, h_factor: Tensor | None, c_factor: Tensor | None, low: str
) -> State:
    """`dispatch.lstm`: h after each step, `[T, B, H]`, and the last h and c."""
    if len(x) and not cudnn_obstacle(x, h_factor is not None, low):
        return native(x, h0, c0, *weights)
    return _Window.apply(getattr(torch, low), x, h0, c0, *weights, h_factor, c_factor)


def cudnn_obstacle(x: Tensor, factors: bool, low: str) -> str:
    """Why cuDNN cannot run a window whose inputs have the type and the device of `x`; empty if it can.

    `factors` tells whether a step multiplies the state by a mask or resets it.
    """
    if not _on_gpu(x):
        return NO_GPU
    if factors:
        return "supports neither recurrent dropout nor resets"
    if x.dtype != getattr(torch, low):
        return f"does not support a {str(x.dtype).partition('.')[2]} state with {low} products"
    return "" if torch.backends.cudnn.is_acceptable(x) else "is not available for this type"


def _on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def native(x: Tensor, h0: Tensor, c0: Tensor, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor) -> Any:
    """torch's own LSTM, time first: cuDNN on a GPU, oneDNN on a CPU. Its gates are in Keras' order."""
    weights = [kernel.t().contiguous(), recurrent_kernel.t().contiguous(), bias, torch.zeros_like(bias)]
    h, h_last, c_last = torch.lstm(
        x, (h0.unsqueeze(0), c0.unsqueeze(0)), weights, True, 1, 0.0, torch.is_grad_enabled(), False, False
    )
    return h, h_last[0], c_last[0]


class _Window(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, low: torch.dtype, *arrays: Any) -> State:
        x, h0, c0, kernel, recurrent_kernel, bias, h_factor, c_factor = arrays
        steps, batch, inputs = x.shape
        units = h0.shape[1]
        x_low = x.reshape(steps * batch, inputs).to(low)
        kernel_low, recurrent_low = kernel.to(low), recurrent_kernel.to(low)
        gates = mm(x_low, kernel_low).to(bias.dtype).add_(bias).view(steps, batch, 4 * units)
        times_recurrent = multiplier(recurrent_low)
        h, c = _with_first(h0, steps), _with_first(c0, steps)  # [T + 1, B, H]: before each step, and after the last
        tanh_c = torch.empty_like(h[1:])
        # The loop turns `gates`, now x @ kernel + bias, into the values of i, f, g and o, and fills h, c and tanh_c.
        # Slices are made before the loop: inside it, they would cost as much as the arithmetic of a small model.
        z, hs, cs, tanhs = gates.unbind(0), h.unbind(0), c.unbind(0), tanh_c.unbind(0)
        i_and_f = gates[:, :, : 2 * units].unbind(0)
        i, f, g, o = (part.unbind(0) for part in gates.split(units, 2))
        for t in range(steps):
            h_before = hs[t] if h_factor is None else hs[t] * h_factor[t]
            c_before = cs[t] if c_factor is None else cs[t] * c_factor[t]
            z[t].add_(times_recurrent(h_before.to(low)))
            i_and_f[t].sigmoid_()
            g[t].tanh_()
            o[t].sigmoid_()
            torch.mul(f[t], c_before, out=cs[t + 1]).addcmul_(i[t], g[t])
            torch.tanh(cs[t + 1], out=tanhs[t])
            torch.mul(o[t], tanhs[t], out=hs[t + 1])
        ctx.save_for_backward(x_low, kernel_low, recurrent_low, gates, h, c, tanh_c, h_factor, c_factor)
        # Copies, because the state's variables outlive the arrays of the window.
        return h[1:], h[-1].clone(), c[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x_low, kernel_low, recurrent_low, gates, h, c, tanh_c, h_factor, c_factor = ctx.saved_tensors
        full, low = gates.dtype, x_low.dtype
        steps, batch, units = tanh_c.shape
        c_before = c[:-1] if c_factor is None else c[:-1] * c_factor
        h_before = h[:-1] if h_factor is None else h[:-1] * h_factor
        dz, dc_dh = _gate_factors(gates, c_before, tanh_c)
        f = gates[:, :, units : 2 * units]
        dc_dc = f if c_factor is None else f * c_factor
        dz, dh0, dc0 = _backward_loop(dz, dc_dh, dc_dc, gradients, recurrent_low, h_factor)
        dz_low, h_low = dz.view(steps * batch, 4 * units), h_before.reshape(steps * batch, units).to(low)
        # Copies of the narrow operands, because products with a transposed one are slower.
        dkernel = mm(x_low.t().contiguous(), dz_low).to(full)
        drecurrent = mm(h_low.t().contiguous(), dz_low).to(full)
        dbias = dz_low.sum(0, dtype=full)
        dx = mm(dz_low, kernel_low.t()).to(full).view(steps, batch, -1) if ctx.needs_input_grad[1] else None
        return None, dx, dh0, dc0, dkernel, drecurrent, dbias, None, None


def _gate_factors(gates: Tensor, c_before: Tensor, tanh_c: Tensor) -> tuple[Tensor, Tensor]:
    """Factors that turn dc (for o: dh) into dz, `[T, B, 4H]`, and dh into its part of dc, `[T, B, H]`."""
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
    dz: Tensor, dc_dh: Tensor, dc_dc: Tensor, gradients: State, recurrent: Tensor, h_factor: Tensor | None
) -> State:
    """Turn the factors in `dz` into the gradient of z; return it in the type of the products, with dh0 and dc0."""
    dh, dh_last, dc_last = gradients
    steps, batch, units = dc_dh.shape
    dz_low = dz if recurrent.dtype == dz.dtype else torch.empty_like(dz, dtype=recurrent.dtype)
    of_ifg = dz[:, :, : 3 * units].view(steps, batch, 3, units).unbind(0)
    of_o = dz[:, :, 3 * units :].unbind(0)
    dzs, dzs_low, dhs, dc_dhs, dc_dcs = (a.unbind(0) for a in (dz, dz_low, dh, dc_dh, dc_dc))
    times_transposed = multiplier(recurrent.t())
    dh_here, dc = dh_last + dhs[-1] if steps else dh_last, dc_last.clone()
    dc_of_ifg = dc.unsqueeze(1)
    for t in reversed(range(steps)):
        dc.addcmul_(dh_here, dc_dhs[t])
        of_ifg[t].mul_(dc_of_ifg)
        of_o[t].mul_(dh_here)
        dc.mul_(dc_dcs[t])
        if dz_low is not dz:
            dzs_low[t].copy_(dzs[t])
        dh_here = times_transposed(dzs_low[t]).to(dz.dtype)
        if h_factor is not None:
            dh_here *= h_factor[t]
        if t > 0:
            dh_here += dhs[t - 1]
    return dz_low, dh_here, dc


def _with_first(first: Tensor, steps: int) -> Tensor:
    array = first.new_empty(steps + 1, *first.shape)
    array[0] = first
    return array


def scan(
    step: Callable[[State, Tensor, Any], State], state: State, inputs: Tensor, keep: Tensor | None
) -> tuple[Tensor, State]:
    """`dispatch.scan`, recorded by autograd step by step; `keep` is `[B, T, 1]` or None."""
    if not inputs.shape[1]:  # no output, from a step whose weights have a gradient of 0
        unused = step(state, inputs.sum(1), None)[0]
        return unused[:, None][:, :0], state
    outputs = []
    # The gradient of `unbind` is one stack; the gradient of each `inputs[:, t]` has the size of the window.
    for x, kept in zip(inputs.unbind(1), repeat(None) if keep is None else keep.unbind(1), strict=False):
        state = step(state, x, kept)
        outputs.append(state[0])
    return torch.stack(outputs, 1), state
