"""What a model file may hold: the messages of ONNX, without those that no export of ours has.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Messages that are read as `"bytes"` are not looked into:
where they are there at all, `admission` refuses the file by their name.
"""

# ruff: noqa: RUF009 - `proto` makes dataclass fields.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keraslm.scoring.wire import proto


@dataclass
class Entry:
    key: str = proto(1, "text")
    value: str = proto(2, "text")


@dataclass
class OperatorSet:
    domain: str = proto(1, "text")
    version: int = proto(2, "int")


@dataclass
class Tensor:
    dims: list[int] = proto(1, "int", many=True)
    data_type: int = proto(2, "int")
    segment: Any = proto(3, "bytes")
    float_data: list[float] = proto(4, "float", many=True)
    int32_data: list[int] = proto(5, "int", many=True)
    string_data: list[memoryview] = proto(6, "bytes", many=True)
    int64_data: list[int] = proto(7, "int", many=True)
    name: str = proto(8, "text")
    raw_data: memoryview | bytes = proto(9, "bytes")
    external_data: list[memoryview] = proto(13, "bytes", many=True)
    data_location: int = proto(14, "int")
    doc_string: str = proto(12, "text")


@dataclass
class Attribute:
    name: str = proto(1, "text")
    f: float = proto(2, "float")
    i: int = proto(3, "int")
    s: memoryview | bytes = proto(4, "bytes")
    t: Tensor | None = proto(5, Tensor)
    g: Any = proto(6, "bytes")
    floats: list[float] = proto(7, "float", many=True)
    ints: list[int] = proto(8, "int", many=True)
    strings: list[memoryview] = proto(9, "bytes", many=True)
    tensors: list[memoryview] = proto(10, "bytes", many=True)
    graphs: list[memoryview] = proto(11, "bytes", many=True)
    type: int = proto(20, "int")
    doc_string: str = proto(13, "text")


@dataclass
class Node:
    input: list[str] = proto(1, "text", many=True)
    output: list[str] = proto(2, "text", many=True)
    name: str = proto(3, "text")
    op_type: str = proto(4, "text")
    attribute: list[Attribute] = proto(5, Attribute, many=True)
    doc_string: str = proto(6, "text")
    domain: str = proto(7, "text")


@dataclass
class Dimension:
    """A number, or the name of a free axis."""

    value: int = proto(1, "int")
    name: str = proto(2, "text")


@dataclass
class Shape:
    dim: list[Dimension] = proto(1, Dimension, many=True)


@dataclass
class TensorType:
    elem_type: int = proto(1, "int")
    shape: Shape | None = proto(2, Shape)


@dataclass
class Type:
    tensor_type: TensorType | None = proto(1, TensorType)


@dataclass
class Value:
    """An input, an output, or what is known of a value between them."""

    name: str = proto(1, "text")
    type: Type | None = proto(2, Type)
    doc_string: str = proto(3, "text")

    @property
    def dims(self) -> list[int | str] | None:
        """Sizes and names of the axes; None where the file does not say."""
        if not (self.type and self.type.tensor_type and self.type.tensor_type.shape):
            return None
        return [dim.name or dim.value for dim in self.type.tensor_type.shape.dim]


@dataclass
class Graph:
    node: list[Node] = proto(1, Node, many=True)
    name: str = proto(2, "text")
    initializer: list[Tensor] = proto(5, Tensor, many=True)
    doc_string: str = proto(10, "text")
    input: list[Value] = proto(11, Value, many=True)
    output: list[Value] = proto(12, Value, many=True)
    value_info: list[Value] = proto(13, Value, many=True)
    sparse_initializer: list[memoryview] = proto(15, "bytes", many=True)


@dataclass
class Model:
    ir_version: int = proto(1, "int")
    producer_name: str = proto(2, "text")
    producer_version: str = proto(3, "text")
    domain: str = proto(4, "text")
    model_version: int = proto(5, "int")
    doc_string: str = proto(6, "text")
    graph: Graph | None = proto(7, Graph)
    opset_import: list[OperatorSet] = proto(8, OperatorSet, many=True)
    metadata_props: list[Entry] = proto(14, Entry, many=True)
    training_info: list[memoryview] = proto(20, "bytes", many=True)
    functions: list[memoryview] = proto(25, "bytes", many=True)

    @property
    def metadata(self) -> dict[str, str]:
        return {entry.key: entry.value for entry in self.metadata_props}
