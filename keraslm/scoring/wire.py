"""The wire format of protocol buffers, read strictly, without the `onnx` package: a scoring host has none.

Source: https://protobuf.dev/programming-guides/encoding. Where two readers differ, the model that was checked is not
the one that runs. So whatever could be read in two ways is refused: a field that no dataclass of `onnx_messages` names,
a field twice that may be there once, a number in more bytes than it takes. Nested messages go as deep as those
dataclasses do, which do not contain themselves; so no file can exhaust the stack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from keraslm.errors import ModelFileError

MAX_FIELDS = 100_000  # of one file; an export of ours has some 2,000

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_NAMES = {VARINT: "a varint", FIXED64: "8 bytes", BYTES: "a length", FIXED32: "4 bytes"}

Message = TypeVar("Message")


class _Kind(NamedTuple):
    name: str
    kind: Any  # "int", "float", "text", "bytes", or the dataclass of a nested message
    many: bool


def proto(number: int, kind: Any, many: bool = False) -> Any:
    """A dataclass field that is read from the wire.

    Args:
        number: of the field in the `.proto` file.
        kind: `"int"` (signed, 64 bits), `"float"` (32 bits), `"text"` (UTF-8), `"bytes"` (a memoryview), or the
            dataclass of a message.
        many: a list, packed or not.

    Example:
        >>> @dataclass
        ... class OperatorSet:
        ...     domain: str = proto(1, "text")
    """
    metadata = {"number": number, "kind": kind, "many": many}
    if many:
        return dataclasses.field(default_factory=list, metadata=metadata)
    default = {"int": 0, "float": 0.0, "text": "", "bytes": b""}.get(kind) if isinstance(kind, str) else None
    return dataclasses.field(default=default, metadata=metadata)


def read(message: type[Message], data: bytes | memoryview, where: str) -> Message:
    """Read one message.

    Args:
        message: a dataclass whose fields were made by `proto`.
        data: the whole of it.
        where: the file, for errors.

    Raises:
        ModelFileError: malformed bytes, unknown or repeated fields, or more than `MAX_FIELDS` of them.
    """
    view = memoryview(data)
    return _Reader(view, where).message(message, 0, len(view))


@cache
def _kinds(message: Any) -> dict[int, _Kind]:
    fields = dataclasses.fields(message)
    return {f.metadata["number"]: _Kind(f.name, f.metadata["kind"], f.metadata["many"]) for f in fields}


class _Reader:
    def __init__(self, data: memoryview, where: str):
        self.data = data
        self.where = where
        self.left = MAX_FIELDS

    def message(self, message: type[Message], start: int, end: int) -> Message:
        kinds: dict[int, _Kind] = _kinds(message)  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        for at, number, wire, value in self._fields(start, end):
            if number not in kinds:
                raise self._damaged(at, f"field {number} in a {message.__name__}, which keraslm does not write")
            name, kind, many = kinds[number]
            if many:
                values.setdefault(name, []).extend(self._values(at, kind, wire, value))
            elif name in values:
                raise self._damaged(at, f"a second {name} in one {message.__name__}")
            else:
                values[name] = self._value(at, kind, wire, value)
        return message(**values)

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, Any]]:
        """Place, field number, wire type and value of each field: a number, or where a run of bytes begins and ends."""
        while at < end:
            self._count(at)
            start = at
            tag, at = self._varint(at, end)
            wire = tag & 7
            value: Any
            if wire == VARINT:
                value, at = self._varint(at, end)
            elif wire in (BYTES, FIXED32, FIXED64):
                length = {FIXED32: 4, FIXED64: 8}.get(wire, 0)
                if wire == BYTES:
                    length, at = self._varint(at, end)
                if length > end - at:
                    raise self._damaged(start, f"a field of {length} bytes where {end - at} are left")
                value, at = (at, at + length), at + length
            else:
                raise self._damaged(start, f"wire type {wire}")
            yield start, tag >> 3, wire, value

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        for place in range(at, min(end, at + 10)):
            byte = self.data[place]
            value |= (byte & 127) << shift
            if byte < 128:
                if value >> 64 or (byte == 0 and shift):
                    raise self._damaged(at, "a number that is not written as protocol buffers write it")
                return value, place + 1
            shift += 7
        raise self._damaged(at, "a number that does not end")

    def _value(self, at: int, kind: Any, wire: int, value: Any) -> Any:
        expected = {"int": VARINT, "float": FIXED32}.get(kind, BYTES) if isinstance(kind, str) else BYTES
        if wire != expected:
            raise self._damaged(at, f"{_NAMES[wire]} where {_NAMES[expected]} is expected")
        if kind == "int":
            return value - (1 << 64) if value >> 63 else value
        if kind == "float":
            return float(np.frombuffer(self.data[slice(*value)], "<f4")[0])
        if kind == "bytes":
            return self.data[slice(*value)]
        if kind == "text":
            try:
                return str(self.data[slice(*value)], "utf-8")
            except UnicodeDecodeError as error:
                raise self._damaged(at, "a name or text that is not UTF-8") from error
        return self.message(kind, *value)

    def _values(self, at: int, kind: Any, wire: int, value: Any) -> list[Any]:
        if wire != BYTES or kind not in ("int", "float"):
            return [self._value(at, kind, wire, value)]
        if kind == "float":
            start, end = value
            if (end - start) % 4:
                raise self._damaged(at, f"{end - start} bytes of 4-byte numbers")
            self._count(at, (end - start) // 4)
            return np.frombuffer(self.data[start:end], "<f4").tolist()
        found = []
        place, end = value
        while place < end:
            self._count(place)
            number, place = self._varint(place, end)
            found.append(self._value(at, kind, VARINT, number))
        return found

    def _count(self, at: int, fields: int = 1) -> None:
        self.left -= fields
        if self.left < 0:
            raise self._damaged(at, f"more than {MAX_FIELDS:,} fields")

    def _damaged(self, at: int, found: str) -> ModelFileError:
        return ModelFileError(
            f"{self.where}: not an ONNX model, or a damaged one (at byte {at}: {found}). "
            "Make a model with: keraslm export"
        )
