"""Model files, damaged: by bytes, and by changes of the message itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from keraslm.scoring.admission import OPERATORS
from keraslm.scoring.seal import SIZE

Rng = np.random.Generator


def flipped_bits(rng: Rng, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncated(rng: Rng, data: bytes) -> bytes:
    return data[: rng.integers(len(data))]


def random_run(rng: Rng, data: bytes) -> bytes:
    start = int(rng.integers(len(data)))
    noise = rng.bytes(int(rng.integers(1, 65)))
    return data[:start] + noise + data[start + len(noise) :]


def spliced(rng: Rng, data: bytes) -> bytes:
    """A piece of the file at another place, in the place of what was there or pushed in between."""
    length = int(rng.integers(1, min(len(data), 2000)))
    source, place = rng.integers(len(data) - length, size=2)
    return data[:place] + data[source : source + length] + data[place + length * int(rng.integers(2)) :]


def removed(rng: Rng, data: bytes) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 200)) :]


def huge_number(rng: Rng, data: bytes) -> bytes:
    """A number of many bytes where there was one: a giant length, dimension or tag."""
    start = int(rng.integers(len(data)))
    return data[:start] + b"\xff" * int(rng.integers(1, 11)) + b"\x01" + data[start + 1 :]


def appended(rng: Rng, data: bytes) -> bytes:
    """Fields behind the message: some of it again, or others."""
    other = onnx.ModelProto()
    other.graph.node.add(op_type="Loop")
    other.opset_import.add(domain="x", version=1)
    kinds = (other.SerializeToString(), data, b"\x08\x08", rng.bytes(20))
    return data + kinds[rng.integers(len(kinds))]


BYTES = (flipped_bits, truncated, random_run, spliced, removed, huge_number, appended)


def _node(rng: Rng, model: onnx.ModelProto) -> onnx.NodeProto:
    return model.graph.node[rng.integers(len(model.graph.node))]


def _tensor(rng: Rng, model: onnx.ModelProto) -> onnx.TensorProto:
    return model.graph.initializer[rng.integers(len(model.graph.initializer))]


def operator(rng: Rng, model: onnx.ModelProto) -> None:
    names = [*(name for _, name in OPERATORS), "Loop", "If", "Scan", "Identity", "CumSum", "RandomNormal", "Tile"]
    _node(rng, model).op_type = names[rng.integers(len(names))]


def arithmetic(rng: Rng, model: onnx.ModelProto) -> None:
    """Another operation on the same shapes: nothing but the answers can tell."""
    groups = (("Add", "Sub", "Mul"), ("Max", "Sum"), ("Less", "GreaterOrEqual", "Equal"), ("LogSoftmax", "Cast"))
    kinds = {kind: group for group in groups for kind in group}
    nodes = [node for node in model.graph.node if node.op_type in kinds]
    node = nodes[rng.integers(len(nodes))]
    others = kinds[node.op_type]
    node.op_type = others[rng.integers(len(others))]


def constant(rng: Rng, model: onnx.ModelProto) -> None:
    """A start, an end, an axis or the like is another one."""
    tensors = [tensor for tensor in model.graph.initializer if tensor.data_type in (6, 7)]
    tensor = tensors[rng.integers(len(tensors))]
    values = onnx.numpy_helper.to_array(tensor) + int(rng.integers(-2, 3))
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def domain(rng: Rng, model: onnx.ModelProto) -> None:
    _node(rng, model).domain = ("com.microsoft", "x", "ai.onnx.ml", "ai.onnx")[rng.integers(4)]


def wiring(rng: Rng, model: onnx.ModelProto) -> None:
    """An input of a node is another value, or an output another name."""
    names = [name for node in model.graph.node for name in (*node.input, *node.output)] + ["", "h0", "targets"]
    node = _node(rng, model)
    ends = node.output if rng.integers(4) == 0 else node.input
    ends[rng.integers(len(ends))] = names[rng.integers(len(names))]


def order(rng: Rng, model: onnx.ModelProto) -> None:
    first, second = _node(rng, model), _node(rng, model)
    copy = onnx.NodeProto.FromString(first.SerializeToString())
    first.CopyFrom(second)
    second.CopyFrom(copy)


def node_again_or_gone(rng: Rng, model: onnx.ModelProto) -> None:
    if rng.integers(2):
        model.graph.node.add().CopyFrom(_node(rng, model))
    else:
        del model.graph.node[rng.integers(len(model.graph.node))]


def dims(rng: Rng, model: onnx.ModelProto) -> None:
    tensor = _tensor(rng, model)
    sizes = (0, 1, 2, -1, 1 << 31, 1 << 62, (1 << 63) - 1, *tensor.dims)
    if len(tensor.dims) and rng.integers(3):
        tensor.dims[rng.integers(len(tensor.dims))] = sizes[rng.integers(len(sizes))]
    else:
        tensor.dims.append(sizes[rng.integers(len(sizes))])


def data_type(rng: Rng, model: onnx.ModelProto) -> None:
    _tensor(rng, model).data_type = int(rng.integers(-1, 25))


def weight(rng: Rng, model: onnx.ModelProto) -> None:
    """Some numbers of a tensor, or all of them, are what they should not be."""
    tensor = _tensor(rng, model)
    values = np.array(onnx.numpy_helper.to_array(tensor))
    floats = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e9, 0.0)
    bad = floats if values.dtype.kind == "f" else (0, 1, 127) if values.dtype.itemsize == 1 else (0, -1, 7, 2**31 - 1)
    flat = values.reshape(-1)
    flat[rng.integers(len(flat)) if rng.integers(2) else slice(None)] = bad[rng.integers(len(bad))]
    tensor.CopyFrom(onnx.numpy_helper.from_array(flat.reshape(values.shape), tensor.name))


def external(rng: Rng, model: onnx.ModelProto) -> None:
    tensor = _tensor(rng, model)
    location = ("/etc/passwd", "../data", "/dev/zero", "data", "")[rng.integers(5)]
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value=str(1 << 60))
    tensor.data_location = int(rng.integers(2))
    if rng.integers(2):
        tensor.ClearField("raw_data")


def attribute(rng: Rng, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    if len(node.attribute) and rng.integers(3):
        found = node.attribute[rng.integers(len(node.attribute))]
        change = rng.integers(4)
        if change == 0:
            found.i = (0, -1, 1, 10, 1 << 40)[rng.integers(5)]
        elif change == 1:
            found.ints.extend([3, 0])
        elif change == 2:
            found.type = int(rng.integers(15))
        else:
            found.g.node.add(op_type="Loop")
    else:
        names = ("axis", "to", "perm", "hidden_size", "clip", "batch_dims", "direction", "layout")
        node.attribute.append(onnx.helper.make_attribute(names[rng.integers(len(names))], int(rng.integers(-2, 4))))


def metadata(rng: Rng, model: onnx.ModelProto) -> None:
    entry = model.metadata_props[rng.integers(len(model.metadata_props))]
    change = rng.integers(5)
    if change == 0:
        entry.key += "x"
    elif change == 1:
        entry.value = ("", "-1", "0", "1e999", "9" * 5000, "nan", "{" * 3000, "null")[rng.integers(8)]
    elif change == 2:
        model.metadata_props.add().CopyFrom(entry)
    elif change == 3:
        del model.metadata_props[rng.integers(len(model.metadata_props))]
    else:
        text = list(entry.value) or [" "]
        text[rng.integers(len(text))] = chr(int(rng.integers(32, 0xD7FF)))
        entry.value = "".join(text)


def declared(rng: Rng, model: onnx.ModelProto) -> None:
    """Sizes, types and names of inputs and outputs."""
    values = (*model.graph.input, *model.graph.output)
    value, change = values[rng.integers(len(values))], rng.integers(3)
    if change == 0:
        value.name = values[rng.integers(len(values))].name
    elif change == 1:
        value.type.tensor_type.elem_type = int(rng.integers(20))
    else:
        dim = value.type.tensor_type.shape.dim
        dim[rng.integers(len(dim))].dim_value = (0, 1, 7, -1, 1 << 40)[rng.integers(5)]


def extras(rng: Rng, model: onnx.ModelProto) -> None:
    """Parts that no export has."""
    change = rng.integers(6)
    if change == 0:
        model.functions.add(name="f", domain="x")
    elif change == 1:
        model.training_info.add()
    elif change == 2:
        model.graph.sparse_initializer.add().dims.append(1 << 40)
    elif change == 3:
        model.opset_import[0].version = int(rng.integers(30))
    elif change == 4:
        model.ir_version = int(rng.integers(20))
    else:
        model.graph.initializer.add().CopyFrom(_tensor(rng, model))


def bomb(rng: Rng, model: onnx.ModelProto) -> None:
    """A few nodes that ask for a lot of memory, in front of all others."""
    make, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    change = rng.integers(4)
    large = np.array([int(10 ** rng.integers(5, 14))], np.int64)
    model.graph.initializer.append(tensor(large, "bomb"))
    nodes = [make("ConstantOfShape", ["bomb"], ["b0"])]
    if change == 1:
        nodes = [make("Expand", ["bomb", "bomb"], ["b0"])]
    elif change == 2:
        nodes = [make("Concat", [f"b{i - 1}" if i else "bomb"] * 2, [f"b{i}"], axis=0) for i in range(40)]
    elif change == 3:
        nodes = [make("Shape", ["input_ids"], ["s"]), make("Mul", ["s", "bomb"], ["m"])]
        nodes.append(make("ConstantOfShape", ["m"], ["b0"]))
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


MESSAGES = (
    *(
        operator,
        arithmetic,
        arithmetic,
        constant,
        constant,
        domain,
        wiring,
        wiring,
        order,
        node_again_or_gone,
        dims,
        data_type,
        weight,
        weight,
        external,
    ),
    *(attribute, metadata, metadata, declared, extras, bomb),
)


def mutate(rng: Rng, data: bytes) -> tuple[str, bytes]:
    """One change of a model without its seal; its name and the changed bytes."""
    if rng.integers(2):
        change: Callable = BYTES[rng.integers(len(BYTES))]
        return change.__name__, change(rng, data)
    change = MESSAGES[rng.integers(len(MESSAGES))]
    model = onnx.ModelProto.FromString(data)
    change(rng, model)
    return change.__name__, model.SerializeToString()


def unsealed(data: bytes) -> bytes:
    return data[:-SIZE]
