"""Which ONNX models are let in: those built of the parts that keraslm's exports are built of, and nothing else.

onnxruntime runs whatever a file says, in native code: control flow, functions, data read from other files. So a model
is looked at before onnxruntime sees it, and refused for the first thing that no export of ours has. The lists below are
those of exports of each cell and softmax, in float32 and with 8-bit weights (`keraslm_export.quantize`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import ModelFileError
from keraslm.scoring import contract, sizes
from keraslm.scoring.onnx_messages import Attribute, Graph, Model, Node, Tensor
from keraslm.scoring.values import MAX_RANK

IR_VERSION = 8
# Domains and the versions of them; nothing is used of ai.onnx.ml, but tf2onnx names it.
DOMAINS = {"": (contract.OPSET, contract.OPSET), "ai.onnx.ml": (1, 5), "com.microsoft": (1, 1)}

# TensorProto.DataType -> NumPy's; no strings, no numbers of 16 bits.
TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_}

LARGEST = 1e9  # of a weight; far beyond any training, and far from what overflows in float32 behind two products

_INT, _STRING, _TENSOR, _INTS, _STRINGS = 2, 3, 4, 7, 8  # AttributeProto.AttributeType
_LSTM = {"activations": _STRINGS, "direction": _STRING, "hidden_size": _INT}
# Operators by domain and name, with their attributes and the types of them.
OPERATORS: dict[tuple[str, str], dict[str, int]] = {
    ("", "LSTM"): _LSTM,
    ("", "GRU"): {"hidden_size": _INT, "linear_before_reset": _INT},
    ("", "RNN"): {"hidden_size": _INT},
    ("com.microsoft", "DynamicQuantizeLSTM"): _LSTM,
    ("com.microsoft", "DynamicQuantizeMatMul"): {},
    ("com.microsoft", "MatMulIntegerToFloat"): {},
    ("", "Cast"): {"to": _INT},
    ("", "Concat"): {"axis": _INT},
    ("", "ConstantOfShape"): {"value": _TENSOR},
    ("", "Gather"): {"axis": _INT},
    ("", "GatherElements"): {"axis": _INT},
    ("", "Transpose"): {"perm": _INTS},
    **{
        ("", name): {}
        for name in (
            *("Add", "And", "Equal", "Exp", "Expand", "GatherND", "GreaterOrEqual", "Identity", "Less", "Log"),
            *("LogSoftmax", "MatMul", "Max", "Mul", "NonZero", "Not", "Pad", "QuantizeLinear", "Range", "ScatterND"),
            *("Shape", "Slice", "Squeeze", "Sub", "Sum", "Tanh", "Unsqueeze", "Where"),
        )
    },
}


def admit(model: Model, where: str) -> None:
    """Let a model in, or say why not.

    Args:
        model: of a file, as `wire.read` gives it.
        where: the file, for errors.

    Raises:
        ModelFileError: what was found that no export of keraslm's has; or a weight that is not finite; or a graph that
            could take more memory than ours do.
    """
    refuse = _Refusal(where)
    if model.graph is None:
        refuse("it has no graph")
    refuse.any_of(model, functions="functions", training_info="training information")
    refuse.any_of(model.graph, sparse_initializer="sparse tensors")
    if model.ir_version != IR_VERSION:
        refuse(f"IR version {model.ir_version}, not {IR_VERSION}")
    keys = [entry.key for entry in model.metadata_props]
    _check_once("metadata key", keys, refuse)
    _check_once("operator set", [used.domain for used in model.opset_import], refuse)
    for used in model.opset_import:
        low, high = DOMAINS.get(used.domain, (1, 0))
        if not low <= used.version <= high:
            refuse(f"operator set {used.version} of domain {used.domain or 'ai.onnx'!r}")
    domains = {used.domain for used in model.opset_import}
    for node in model.graph.node:
        if node.domain not in domains:
            refuse(f"operator {_named(node)} of a domain that is not imported")
        _check_node(node, refuse)
    tensors = _check_tensors(model.graph, refuse)
    _check_values(model.graph, refuse)
    sizes.check(model.graph, tensors, refuse)


class _Refusal:
    """Call it with what was found."""

    def __init__(self, where: str):
        self.where = where

    def __call__(self, found: str) -> NoReturn:
        raise ModelFileError(
            f"{self.where}: not one of keraslm's exports, so it is not run: {found}. Make a model with: keraslm export"
        )

    def any_of(self, message: Any, **names: str) -> None:
        """Refuse a message that has one of some fields; each with what it is called."""
        for field, name in names.items():
            if len(getattr(message, field)):
                self(name)


def _check_once(what: str, names: Iterable[str], refuse: _Refusal) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            refuse(f"{what} {name[:80]!r} is there twice")
        seen.add(name)


def _named(node: Node) -> str:
    return f"{f'{node.domain}.' if node.domain else ''}{node.op_type}"[:80]


def _check_node(node: Node, refuse: _Refusal) -> None:
    for attribute in node.attribute:
        refuse.any_of(attribute, g="a subgraph", graphs="subgraphs", tensors="an attribute of many tensors")
    known = OPERATORS.get((node.domain, node.op_type))
    if known is None:
        refuse(f"operator {_named(node)}")
    _check_once(f"attribute of {_named(node)}", [attribute.name for attribute in node.attribute], refuse)
    for attribute in node.attribute:
        value = _attribute_value(attribute)
        if known.get(attribute.name) != attribute.type or value is None:
            refuse(f"attribute {attribute.name[:80]!r} of {_named(node)}, type {attribute.type}")
        if attribute.name == "to" and value not in TYPES:
            refuse(f"a Cast to data type {value}")
        if attribute.name == "activations" and value != [b"Sigmoid", b"Tanh", b"Tanh"]:
            refuse("an LSTM with other activations")
        if attribute.name == "linear_before_reset" and value != 1:
            refuse("a GRU that resets before the product")
        if attribute.name == "direction" and value != b"forward":
            refuse("an LSTM that does not run forward")
        if isinstance(value, Tensor) and values_of(value, f"the value of {_named(node)}", refuse).size != 1:
            refuse(f"{_named(node)} of more than one value")


def _attribute_value(attribute: Attribute) -> Any:
    """The value that its type names; None where another is there too."""
    fields = {_INT: "i", _STRING: "s", _TENSOR: "t", _INTS: "ints", _STRINGS: "strings"}
    own = fields.get(attribute.type)
    for name in ("f", "i", "s", "t", "floats", "ints", "strings"):
        value = getattr(attribute, name)
        if name != own and (isinstance(value, Tensor) or (value is not None and value not in (0, b"", []))):
            return None
    return getattr(attribute, own) if own else None


def _check_tensors(graph: Graph, refuse: _Refusal) -> dict[str, NDArray[Any]]:
    _check_once("initializer", [tensor.name for tensor in graph.initializer], refuse)
    return {tensor.name: values_of(tensor, f"initializer {tensor.name[:80]!r}", refuse) for tensor in graph.initializer}


def values_of(tensor: Tensor, what: str, refuse: _Refusal) -> NDArray[Any]:
    """The values of a tensor that lies whole in the file, none of them NaN, infinite or beyond `LARGEST`."""
    if len(tensor.external_data) or tensor.data_location:
        refuse(f"{what} is external data, kept in another file")
    if len(tensor.segment) or tensor.string_data:
        refuse(f"{what} comes in segments or holds text")
    if tensor.data_type not in TYPES:
        refuse(f"{what} is of data type {tensor.data_type}")
    kind = np.dtype(TYPES[tensor.data_type]).newbyteorder("<")
    if any(dim < 0 for dim in tensor.dims) or len(tensor.dims) > MAX_RANK:
        refuse(f"{what} has shape {tensor.dims[:MAX_RANK]}")
    count = math.prod(tensor.dims)
    payloads = [bool(len(x)) for x in (tensor.raw_data, tensor.float_data, tensor.int32_data, tensor.int64_data)]
    if sum(payloads) > 1 or not count:
        refuse(f"{what} has no value, or two kinds of them")
    values = np.frombuffer(tensor.raw_data, np.uint8)
    if not payloads[0]:
        values = _from_list(tensor, kind, what, refuse)
    if values.nbytes != count * kind.itemsize:
        refuse(f"{what} of shape {tensor.dims} holds {values.nbytes} bytes, not {count * kind.itemsize}")
    if kind.kind == "f" and not _is_sound(values, kind):
        refuse(f"{what} is not finite, or beyond {LARGEST:g}")
    if kind.kind == "b" and values.max() > 1:
        refuse(f"{what} holds a truth value that is neither 0 nor 1")
    return values.view(kind).reshape(tensor.dims)


def _from_list(tensor: Tensor, kind: np.dtype[Any], what: str, refuse: _Refusal) -> NDArray[np.uint8]:
    """Bytes of values that are written one by one."""
    listed: list[Any] = {"f": tensor.float_data}.get(kind.kind, tensor.int32_data)
    listed = tensor.int64_data if kind.itemsize == 8 else listed
    try:
        return (
            np.array(listed, np.float32 if kind.kind == "f" else np.int64).astype(kind, casting="unsafe").view(np.uint8)
        )
    except (OverflowError, ValueError):
        refuse(f"{what} holds numbers that are none of its type")


def _is_sound(values: NDArray[np.uint8], kind: np.dtype[Any]) -> bool:
    """Whether every number is finite and at most `LARGEST`. A piece at a time, copied to where NumPy is fast."""
    step = 1 << 18
    for start in range(0, values.size, step):
        piece = np.frombuffer(values[start : start + step].tobytes(), kind)
        if not (piece.max() <= LARGEST and piece.min() >= -LARGEST):  # False for NaN
            return False
    return True


def _check_values(graph: Graph, refuse: _Refusal) -> None:
    """Inputs and outputs: the contract's names and types."""
    for values, names in ((graph.input, contract.INPUTS), (graph.output, contract.OUTPUTS)):
        found = tuple(value.name for value in values)
        if found != names:
            refuse(f"inputs or outputs {', '.join(found)[:200]} instead of {', '.join(names)}")
        for value in values:
            expected = 7 if value.name in (contract.INPUT_IDS, contract.TARGETS) else 1
            if not (value.type and value.type.tensor_type and value.type.tensor_type.elem_type == expected):
                refuse(f"{value.name} of another type than {np.dtype(TYPES[expected])}")
            if value.dims is None or len(value.dims) != (2 if "target" in value.name or expected == 7 else 3):
                refuse(f"{value.name} of shape {value.dims}")
