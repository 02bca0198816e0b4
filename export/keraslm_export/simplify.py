"""The graph that tf2onnx gives, with fewer and cheaper nodes that compute the same, in an order and under names that
hang on its connections alone.

Two of its ways cost time at each token:

    MatMul(x, kernel) -> Add(bias)                   writes all V logits a second time
        MatMul([x, 1], [kernel; bias])               the bias is one more row of the kernel
    GatherND(log_probs, (row, step, target))         takes a dozen small nodes that count rows and steps
        GatherElements(log_probs, target)

And one would keep a large table twice in the file, where it is the kernel of the softmax, too:

    kernel                                           a constant, (H, V)
        Transpose(table)                             made of the constant (V, H) when onnxruntime opens the file

`keraslm_export.verify` compares the outcome with Keras.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from keraslm.scoring import contract


def pick_targets(graph: Any) -> None:
    """Let log-probabilities be gathered by target alone, in place.

    Args:
        graph: an `onnx.GraphProto` of a full softmax or a mixture, which gather nothing else by `GatherND`; the nodes
            that it no longer needs stay, and `tidy` leaves them out.
    """
    from onnx import helper

    axis = add_tensor(graph, "targets_axis", np.array([2], np.int64))
    nodes = [helper.make_node("Unsqueeze", [contract.TARGETS, axis], ["targets_column"])]
    gathers = [node for node in graph.node if node.op_type == "GatherND"]
    for node in gathers:
        (output,) = node.output
        nodes += [
            helper.make_node("GatherElements", [node.input[0], "targets_column"], [f"{output}_column"], axis=2),
            helper.make_node("Squeeze", [f"{output}_column", axis], [output]),
        ]
    replace(graph, gathers, nodes)


def fold_biases(proto: Any) -> None:
    """Make each bias that is added to a product with a constant matrix a row of the matrix, in place.

    Args:
        proto: an `onnx.ModelProto`, its nodes in order.
    """
    from onnx import helper, shape_inference

    graph = proto.graph
    inferred = shape_inference.infer_shapes(proto).graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in inferred.value_info}
    one = add_tensor(graph, "one", np.array(1, np.float32))
    for product, addition, kernel, bias in projections(graph):
        name, rank = addition.output[0], ranks[product.input[0]]
        pads = add_tensor(graph, f"pads_{rank}", np.array([0] * (2 * rank - 1) + [1], np.int64))
        # Both outputs of an adaptive softmax use one kernel.
        joined = add_tensor(graph, f"{product.input[1]}_bias", np.concatenate([kernel, bias[None]]))
        padded = helper.make_node("Pad", [product.input[0], pads, one], [f"{name}_input"])
        joint = helper.make_node("MatMul", [f"{name}_input", joined], [name])
        replace(graph, [product, addition], [padded, joint])
    tidy(graph)


def share_table(graph: Any) -> None:
    """Make a kernel that is the transposed embedding table of that table, in place, so that a file holds it once.

    onnxruntime transposes a constant when it opens a file, and not again; clients lose nothing by it.

    Args:
        graph: an `onnx.GraphProto` in float32 or int8; a bias may be the kernel's last row.
    """
    from onnx import helper

    constants = constants_of(graph)
    table = next(node.input[0] for node in graph.node if node.op_type == "Gather" and node.input[0] in constants)
    words, size = constants[table].shape
    for name, kernel in constants.items():
        rest = kernel.shape[0] - size if kernel.ndim == 2 and kernel.shape[1] == words else -1
        if rest not in (0, 1) or kernel.dtype != constants[table].dtype:
            continue
        if not np.array_equal(kernel[:size], constants[table].T):
            continue
        made = f"{name}_transposed" if rest else name
        nodes = [helper.make_node("Transpose", [table], [made], perm=[1, 0])]
        if rest:
            row = add_tensor(graph, f"{name}_row", kernel[size:])
            nodes.append(helper.make_node("Concat", [made, row], [name], axis=0))
        graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == name))
        replace(graph, [], nodes)
    tidy(graph)


def projections(graph: Any) -> list[tuple[Any, Any, Any, Any]]:
    """Each product of a tensor with a constant matrix to which a constant bias is added, and to nothing else.

    Returns:
        the `MatMul` node, the `Add` node, the kernel `(rows, columns)` and the bias `(columns,)`.
    """
    constants, uses = constants_of(graph), Counter(name for node in graph.node for name in node.input)
    products = {node.output[0]: node for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants}
    return [
        (products[node.input[0]], node, constants[products[node.input[0]].input[1]], constants[node.input[1]])
        for node in graph.node
        if node.op_type == "Add" and node.input[0] in products and node.input[1] in constants
        if uses[node.input[0]] == 1 and constants[node.input[1]].ndim == 1
    ]


def constants_of(graph: Any) -> dict[str, Any]:
    """The weights of a graph by name, as arrays."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def add_tensor(graph: Any, name: str, value: Any) -> str:
    """Add a constant to a graph, unless one of the name is there; returns its name."""
    from onnx import numpy_helper

    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
    return name


def replace(graph: Any, old: list[Any], new: list[Any]) -> None:
    """Put nodes in the place of others; `tidy` puts them in order."""
    for node in old:
        graph.node.remove(node)
    graph.node.extend(new)


def tidy(graph: Any) -> None:
    """Order and name the nodes and weights of a graph, and leave out what no output needs, in place.

    Args:
        graph: an `onnx.GraphProto` with the contract's outputs, in that order; its inputs keep their names.
    """
    _order(graph)
    _rename(graph, dict(zip((o.name for o in graph.output), contract.OUTPUTS, strict=True)))


def _order(graph: Any) -> None:
    """Put the nodes of a graph in the order in which its outputs, one after the other, come to need them, in place.

    That order hangs on the connections alone. The names that tf2onnx gives to like nodes change from export to export.
    """
    source = {name: node for node in graph.node for name in node.output}
    ordered: dict[str, Any] = {}  # by the node's first output
    waiting = [source[value.name] for value in reversed(graph.output)]
    while waiting:
        node = waiting[-1]
        missing = [source[name] for name in node.input if name in source and source[name].output[0] not in ordered]
        if missing:
            waiting.extend(reversed(missing))
        else:
            ordered.setdefault(waiting.pop().output[0], node)
    nodes = [type(node).FromString(node.SerializeToString()) for node in ordered.values()]
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give every node and tensor a name by its place, and order the weights by their first use.

    tf2onnx numbers constants by the order of a set, so that two exports of one run would differ.

    Args:
        graph: an `onnx.GraphProto`, changed in place; its inputs keep their names.
        names: new names of its outputs.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    used = list(dict.fromkeys(name for node in graph.node for name in node.input if name in tensors))
    kept = [type(tensors[name]).FromString(tensors[name].SerializeToString()) for name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    names = names | {name: f"weight_{number}" for number, name in enumerate(used)}
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for place, name in enumerate(node.output):
            if name:
                names.setdefault(name, f"{node.name}:{place}")
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.initializer, *graph.output):
        value.name = names[value.name]
