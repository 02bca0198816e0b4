"""Protocol-buffer messages, read without the `onnx` package; what `onnx` makes of the same bytes is the measure."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from keraslm.errors import ModelFileError
from keraslm.scoring import wire
from keraslm.scoring.onnx_messages import Attribute, Entry, Graph, Model, Node, OperatorSet, Tensor
from tests.support import fake_model


def bad(message, data: bytes, found: str) -> None:
    with pytest.raises(ModelFileError, match=rf"^m\.onnx: not an ONNX model, or a damaged one \(at byte \d+: {found}"):
        wire.read(message, data, "m.onnx")


def test_a_model_is_read_as_onnx_reads_it(tiny_model):
    data = tiny_model.read_bytes()
    found, expected = wire.read(Model, data, "m"), onnx.load_from_string(data)
    assert found.ir_version == expected.ir_version
    assert found.metadata == {entry.key: entry.value for entry in expected.metadata_props}
    assert [(o.domain, o.version) for o in found.opset_import] == [(o.domain, o.version) for o in expected.opset_import]
    for ours, theirs in zip(found.graph.node, expected.graph.node, strict=True):
        assert (ours.op_type, ours.domain, ours.name) == (theirs.op_type, theirs.domain, theirs.name)
        assert (ours.input, ours.output) == (list(theirs.input), list(theirs.output))
        for a, b in zip(ours.attribute, theirs.attribute, strict=True):
            assert (a.name, a.type, a.i, a.ints) == (b.name, b.type, b.i, list(b.ints))
            assert (bytes(a.s), [bytes(s) for s in a.strings]) == (b.s, list(b.strings))
    for ours, theirs in zip(found.graph.initializer, expected.graph.initializer, strict=True):
        assert (ours.name, ours.dims, ours.data_type) == (theirs.name, list(theirs.dims), theirs.data_type)
        assert bytes(ours.raw_data) == theirs.raw_data
    values = zip(
        (*found.graph.input, *found.graph.output), (*expected.graph.input, *expected.graph.output), strict=True
    )
    for ours, theirs in values:
        assert ours.name == theirs.name
        assert ours.dims == [d.dim_param or d.dim_value for d in theirs.type.tensor_type.shape.dim]


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), st.lists(st.floats(width=32, allow_nan=False)), st.text()
)
def test_numbers_and_texts_are_those_of_protobuf(ints, floats, name):
    theirs = helper.make_attribute("x", 0)
    theirs.name, theirs.i = name, ints[0] if ints else -1
    theirs.ints.extend(ints)
    theirs.floats.extend(floats)
    theirs.t.CopyFrom(TensorProto(int64_data=ints, float_data=floats))  # packed there, not packed above
    ours = wire.read(Attribute, theirs.SerializeToString(), "m")
    assert (ours.name, ours.i, ours.ints, ours.floats) == (name, theirs.i, ints, floats)
    assert (ours.t.int64_data, ours.t.float_data) == (ints, floats)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    for message in (Model, Node, Tensor, Attribute):
        with contextlib.suppress(ModelFileError):
            wire.read(message, data, "m")


@given(st.data())
def test_what_we_read_protobuf_reads_too(data):
    """Nothing passes our reader that protobuf refuses."""
    original = bytearray(fake_model.build().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        ours = wire.read(Model, bytes(original), "m")
    except ModelFileError:
        return
    theirs = onnx.ModelProto.FromString(bytes(original))
    assert [node.op_type for node in ours.graph.node] == [node.op_type for node in theirs.graph.node]
    assert [tensor.dims for tensor in ours.graph.initializer] == [list(t.dims) for t in theirs.graph.initializer]


MALFORMED = {
    "length beyond the end": (Entry, b"\x0a\x05abc", "a field of 5 bytes where 3 are left"),
    "giant length": (Entry, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fabc", r"a field of 9\d+ bytes where 3 are left"),
    "number without end": (OperatorSet, b"\x10" + b"\xff" * 20, "a number that does not end"),
    "number cut off": (OperatorSet, b"\x10\xff", "a number that does not end"),
    "number of 65 bits": (OperatorSet, b"\x10" + b"\xff" * 9 + b"\x02", "a number that is not written as"),
    "number with a tail": (OperatorSet, b"\x10\x91\x00", "a number that is not written as"),
    "unknown field": (Model, b"\x08\x08\xf2\x07\x00", "field 126 in a Model, which keraslm does not write"),
    "field 0": (Model, b"\x00\x00", "field 0 in a Model"),
    "groups": (Model, b"\x0b\x0c", "wire type 3"),
    "wire type 7": (Model, b"\x0f", "wire type 7"),
    "wrong wire type": (Model, b"\x0a\x01\x08", "a length where a varint is expected"),
    "8 bytes": (Model, b"\x09" + bytes(8), "8 bytes where a varint is expected"),
    "number twice": (Model, b"\x08\x08\x08\x08", "a second ir_version in one Model"),
    "graph twice": (Model, b"\x3a\x00\x3a\x00", "a second graph in one Model"),
    "not UTF-8": (Entry, b"\x0a\x02\xc3\x28", "a name or text that is not UTF-8"),
    "surrogate": (Entry, b"\x0a\x03\xed\xa0\x80", "a name or text that is not UTF-8"),
    "pieces of floats": (Tensor, b"\x22\x05" + bytes(5), "5 bytes of 4-byte numbers"),
    "packed number without end": (Tensor, b"\x3a\x02\xff\xff", "a number that does not end"),
}


@pytest.mark.parametrize(("message", "data", "found"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_bytes_are_refused(message, data, found):
    bad(message, data, found)


TOO_MANY = {
    "nodes": (Graph, b"\x0a\x00" * (wire.MAX_FIELDS + 1)),
    "packed integers": (Tensor, TensorProto(int64_data=[0] * (wire.MAX_FIELDS + 1)).SerializeToString()),
    "packed floats": (Tensor, TensorProto(float_data=[0] * (wire.MAX_FIELDS + 1)).SerializeToString()),
}


@pytest.mark.parametrize(("message", "data"), TOO_MANY.values(), ids=TOO_MANY)
def test_the_number_of_fields_is_bounded(message, data):
    bad(message, data, "more than 100,000 fields")


def test_a_nest_of_graphs_is_not_walked():
    node = helper.make_node("If", [], [])
    for _ in range(20):
        node = helper.make_node("If", [], [], then_branch=helper.make_graph([node], "g", [], []))
    found = wire.read(Node, node.SerializeToString(), "m")
    assert isinstance(found.attribute[0].g, memoryview)


def test_raw_data_are_not_copied():
    data = TensorProto(raw_data=bytes(range(100))).SerializeToString()
    assert wire.read(Tensor, data, "m").raw_data.obj is data


def test_an_empty_message_has_its_defaults():
    assert wire.read(Model, b"", "m") == Model()
    assert wire.read(Tensor, numpy_helper.from_array(np.array(3, np.int32)).SerializeToString(), "m").dims == []
