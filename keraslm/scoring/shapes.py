"""Shapes of what each admitted operator gives, and small values that shapes are computed from.

Source: https://onnx.ai/onnx/operators, at the operator set of `contract.OPSET`. Only what our exports use of an
operator is known here; another use is a misfit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring.onnx_messages import Node
from keraslm.scoring.values import (
    ABSENT,
    MAX_KNOWN,
    MAX_RANK,
    MisfitError,
    Value,
    attribute,
    axis_of,
    broadcast,
    numbers,
    of,
)

_CASTS = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_}  # by TensorProto.DataType

Rule = Callable[[Node, list[Value]], list[Value]]


def _each(compute: Callable[..., NDArray[Any]] | None = None) -> Rule:
    """Element by element, the smaller ones repeated."""

    def rule(node: Node, inputs: list[Value]) -> list[Value]:
        shape, loose = broadcast(inputs), any(value.loose for value in inputs)
        known = [value.known for value in inputs if value.known is not None]
        # How an operation on an upper bound would bound its result is left open.
        if compute is None or loose or len(known) < len(inputs) or math.prod(shape) > MAX_KNOWN:
            return [Value(shape, None, loose)]
        return [of(np.asarray(compute(*known)))]

    return rule


def _cast(node: Node, inputs: list[Value]) -> list[Value]:
    (value,) = inputs
    known = value.known
    # A number that does not fit becomes another one on each machine.
    if known is None or not np.all(np.abs(known.astype(np.float64)) < 2**31):
        return [Value(value.shape, None, value.loose)]
    return [of(known.astype(_CASTS[attribute(node, "to", 1)]), value.loose)]


def _shape(node: Node, inputs: list[Value]) -> list[Value]:
    return [of(np.array(inputs[0].shape, np.int64), inputs[0].loose)]


def _gather(node: Node, inputs: list[Value]) -> list[Value]:
    data, places = inputs
    axis = axis_of(attribute(node, "axis", 0), len(data.shape))
    shape = data.shape[:axis] + places.shape + data.shape[axis + 1 :]
    return [Value(shape, None, data.loose or places.loose)]


def _gather_nd(node: Node, inputs: list[Value]) -> list[Value]:
    data, places = inputs
    if not places.shape or not 1 <= places.shape[-1] <= len(data.shape):
        raise MisfitError(f"places of shape {places.shape} in {data.shape}")
    return [Value(places.shape[:-1] + data.shape[places.shape[-1] :], None, data.loose or places.loose)]


def _gather_elements(node: Node, inputs: list[Value]) -> list[Value]:
    data, places = inputs
    axis = axis_of(attribute(node, "axis", 0), len(data.shape))
    pairs = [*zip(data.shape, places.shape, strict=True)]
    if any(few > size for number, (size, few) in enumerate(pairs) if number != axis):
        raise MisfitError(f"places of shape {places.shape} in {data.shape}")
    return [Value(places.shape, None, data.loose or places.loose)]


def _scatter_nd(node: Node, inputs: list[Value]) -> list[Value]:
    data, places, updates = inputs
    if not places.shape or updates.shape != places.shape[:-1] + data.shape[places.shape[-1] :]:
        raise MisfitError(f"updates of shape {updates.shape} at places of shape {places.shape} in {data.shape}")
    return [Value(data.shape, None, data.loose)]


def _slice(node: Node, inputs: list[Value]) -> list[Value]:
    data = inputs[0]
    starts, ends = (numbers(value, "where a Slice begins or ends") for value in inputs[1:3])
    rank = len(data.shape)
    axes = numbers(inputs[3], "the axes of a Slice") if len(inputs) > 3 else list(range(len(starts)))
    steps = numbers(inputs[4], "the steps of a Slice") if len(inputs) > 4 else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or any(step != 1 for step in steps):
        raise MisfitError("a Slice in steps, or of some ends without a start")
    parts = [slice(None)] * rank
    for start, end, axis in zip(starts, ends, axes, strict=True):
        parts[axis_of(axis, rank)] = slice(start, end)
    if data.known is not None:
        return [of(data.known[tuple(parts)], data.loose)]
    # Of a loose size the whole is an upper bound.
    sizes = [
        size if data.loose else len(range(*part.indices(size))) for size, part in zip(data.shape, parts, strict=True)
    ]
    return [Value(tuple(sizes), None, data.loose)]


def _concat(node: Node, inputs: list[Value]) -> list[Value]:
    axis = axis_of(attribute(node, "axis", 0), len(inputs[0].shape))
    rests = {value.shape[:axis] + value.shape[axis + 1 :] for value in inputs if len(value.shape) > axis}
    if len(rests) != 1 or any(len(value.shape) != len(inputs[0].shape) for value in inputs):
        raise MisfitError(f"shapes {', '.join(str(value.shape) for value in inputs[:4])} one behind the other")
    size = sum(value.shape[axis] for value in inputs)
    shape, loose = (*inputs[0].shape[:axis], size, *inputs[0].shape[axis + 1 :]), any(v.loose for v in inputs)
    known = [value.known for value in inputs if value.known is not None]
    if len(known) < len(inputs):
        return [Value(shape, None, loose)]
    return [of(np.concatenate(known, axis), loose)]


def _transpose(node: Node, inputs: list[Value]) -> list[Value]:
    shape = inputs[0].shape
    order = attribute(node, "perm", list(range(len(shape)))[::-1])
    if sorted(order) != list(range(len(shape))):
        raise MisfitError(f"axes {order[:MAX_RANK]} of shape {shape}")
    return [Value(tuple(shape[axis] for axis in order), None, inputs[0].loose)]


def _unsqueeze(node: Node, inputs: list[Value]) -> list[Value]:
    value, axes = inputs[0], numbers(inputs[1], "the axes of an Unsqueeze")
    rank = len(value.shape) + len(axes)
    places = {axis_of(axis, rank) for axis in axes}
    if len(places) < len(axes):
        raise MisfitError("an axis twice")
    sizes = iter(value.shape)
    return [_reshaped(value, tuple(1 if axis in places else next(sizes) for axis in range(rank)))]


def _squeeze(node: Node, inputs: list[Value]) -> list[Value]:
    value = inputs[0]
    if len(inputs) < 2:
        raise MisfitError("a Squeeze of axes that are not named")
    places = {axis_of(axis, len(value.shape)) for axis in numbers(inputs[1], "the axes of a Squeeze")}
    if any(value.shape[axis] != 1 for axis in places):
        raise MisfitError(f"an axis of shape {value.shape} that is not of size 1 cannot be left out")
    return [_reshaped(value, tuple(size for axis, size in enumerate(value.shape) if axis not in places))]


def _reshaped(value: Value, shape: tuple[int, ...]) -> Value:
    return Value(shape, None if value.known is None else value.known.reshape(shape), value.loose)


def _range(node: Node, inputs: list[Value]) -> list[Value]:
    start, delta = (numbers(value, "where a Range begins or its step") for value in (inputs[0], inputs[2]))
    limit = numbers(inputs[1], "where a Range ends", loose=True)
    if any(len(value.shape) for value in inputs) or delta != [1]:
        raise MisfitError("a Range in other steps than 1")
    return [Value((max(0, limit[0] - start[0]),), None, inputs[1].loose)]


def _constant_of_shape(node: Node, inputs: list[Value]) -> list[Value]:
    return [Value(tuple(numbers(inputs[0], "a shape", loose=True)), None, inputs[0].loose)]


def _expand(node: Node, inputs: list[Value]) -> list[Value]:
    shape = tuple(numbers(inputs[1], "a shape", loose=True))
    loose = inputs[0].loose or inputs[1].loose
    return [Value(broadcast([inputs[0], Value(shape)]), None, loose)]


def _non_zero(node: Node, inputs: list[Value]) -> list[Value]:
    return [Value((len(inputs[0].shape), inputs[0].count), None, True)]


def _matmul(node: Node, inputs: list[Value]) -> list[Value]:
    left, right = inputs[:2]
    if len(left.shape) < 2 or len(right.shape) != 2 or left.shape[-1] != right.shape[0]:
        raise MisfitError(f"a product of shapes {left.shape} and {right.shape}")
    return [Value((*left.shape[:-1], right.shape[1]), None, left.loose or right.loose)]


def _integer_product(node: Node, inputs: list[Value]) -> list[Value]:
    """A product of 8-bit integers in float32: behind the operands their scales and zero points, and a bias."""
    (found,) = _matmul(node, inputs)
    columns, scalars = (found.shape[-1],), [*inputs[2:-1:2]] if node.op_type == "MatMulIntegerToFloat" else []
    if any(value.shape not in ((), columns) for value in inputs[2:]) or any(value.shape for value in scalars):
        raise MisfitError(f"scales of shapes {[value.shape for value in inputs[2:]]} for {columns[0]} columns")
    return [found]


def _same(node: Node, inputs: list[Value]) -> list[Value]:
    return inputs


def _pad(node: Node, inputs: list[Value]) -> list[Value]:
    data, pads, *value = inputs
    rank, sizes = len(data.shape), numbers(pads, "the width of a Pad")
    if len(sizes) != 2 * rank or min(sizes, default=0) < 0 or any(x.shape for x in value):
        raise MisfitError(f"a Pad of {sizes[: 2 * MAX_RANK]} for shape {data.shape}")
    padded = (size + before + after for size, before, after in zip(data.shape, sizes, sizes[rank:], strict=False))
    return [Value(tuple(padded), None, data.loose)]


def _recurrent(node: Node, inputs: list[Value]) -> list[Value]:
    """Y `(T, 1, N, H)`, the last h and, of an LSTM, the last c, `(1, N, H)`."""
    units, kind = attribute(node, "hidden_size", 0), node.op_type.removeprefix("DynamicQuantize")
    gates, planes = {"LSTM": (4, 2), "GRU": (3, 1), "RNN": (1, 1)}[kind]
    layer = "a GRU" if kind == "GRU" else f"an {kind}"
    if len(inputs) < 5 + planes or len(inputs[0].shape) != 3:
        raise MisfitError(f"{layer} without a state, or of another input than (steps, rows, size)")
    x, w, r, b, lengths, *state = inputs[: 5 + planes]
    steps, rows, size = x.shape
    matrices = (gates * units, size), (gates * units, units)
    if node.domain:  # DynamicQuantizeLSTM has them the other way round
        matrices = (matrices[0][::-1], matrices[1][::-1])
    expected = [(1, *matrices[0]), (1, *matrices[1]), (1, 2 * gates * units), (), *[(1, rows, units)] * planes]
    found = [value.shape for value in (w, r, b, lengths, *state)]
    # An empty batch aborts the process.
    if found != expected or lengths.known is None or lengths.known.dtype != np.bool_ or not steps * rows * units:
        raise MisfitError(f"{layer} of {units} units, {rows} rows and {steps} steps with shapes {found}")
    if any(value.loose for value in (x, *state)):
        raise MisfitError(f"{layer} whose number of rows is not that of the inputs")
    return [Value((steps, 1, rows, units)), *[Value((1, rows, units))] * planes]


RULES: dict[str, Rule] = {
    "Add": _each(np.add),
    "And": _each(np.logical_and),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DynamicQuantizeLSTM": _recurrent,
    "DynamicQuantizeMatMul": _integer_product,
    "Equal": _each(np.equal),
    "Exp": _each(),
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "GRU": _recurrent,
    "GreaterOrEqual": _each(np.greater_equal),
    "Identity": _same,
    "LSTM": _recurrent,
    "Less": _each(np.less),
    "Log": _each(),
    "LogSoftmax": _each(),
    "MatMul": _matmul,
    "MatMulIntegerToFloat": _integer_product,
    "Max": _each(lambda *values: np.maximum.reduce(np.broadcast_arrays(*values))),
    "Mul": _each(np.multiply),
    "NonZero": _non_zero,
    "Not": _each(np.logical_not),
    "Pad": _pad,
    "QuantizeLinear": _each(),
    "RNN": _recurrent,
    "Range": _range,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _each(np.subtract),
    "Sum": _each(lambda *values: sum(values[1:], values[0])),
    "Tanh": _each(),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _each(lambda *values: np.where(*values)),
}
INPUTS: dict[str, tuple[int, int]] = {  # fewest and most inputs, where not 2
    **dict.fromkeys(("Cast", "ConstantOfShape", "Exp", "Identity", "Log", "LogSoftmax", "NonZero", "Not"), (1, 1)),
    **dict.fromkeys(("Shape", "Tanh", "Transpose"), (1, 1)),
    "Pad": (2, 3),
    **dict.fromkeys(("QuantizeLinear", "Range", "ScatterND", "Where"), (3, 3)),
    **dict.fromkeys(("Concat", "Max", "Sum"), (1, 64)),
    "DynamicQuantizeLSTM": (12, 12),
    "DynamicQuantizeMatMul": (5, 5),
    **dict.fromkeys(("GRU", "RNN"), (6, 6)),
    "LSTM": (7, 7),
    "MatMulIntegerToFloat": (7, 7),
    "Slice": (3, 5),
}


def results(node: Node, inputs: list[Value]) -> list[Value]:
    """What a node gives.

    Args:
        node: of an operator of `RULES`.
        inputs: what it reads; `ABSENT` where it reads nothing.

    Raises:
        MisfitError: too few or too many inputs, or such that do not go together.
    """
    low, high = INPUTS.get(node.op_type, (2, 2))
    if not low <= len(inputs) <= high:
        raise MisfitError(f"{len(inputs)} inputs")
    needed = inputs[:-1] if RULES[node.op_type] is _integer_product else inputs  # a product may have no bias
    if any(value is ABSENT for value in needed) and RULES[node.op_type] is not _recurrent:
        raise MisfitError("an input is left out")
    try:
        with np.errstate(all="ignore"):
            found = RULES[node.op_type](node, inputs)
    except (TypeError, ValueError, IndexError) as error:
        raise MisfitError(f"values that do not go together ({error})") from error
    if any(size < 0 for value in found for size in value.shape) or any(len(x.shape) > MAX_RANK for x in found):
        raise MisfitError(f"a value of shape {found[0].shape}")
    return found
