"""Recurrent layers that ONNX has no node for, as a `Scan`: a graph of one step, which the runtime repeats.

They are LSTMs with a Mogrifier or with a capped input gate; `keraslm.layers.cells` and `keraslm.layers.lstm` state
their formulas. Shapes: `N` rows, `T` steps, `D` inputs, `H` units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import GraphProto, TensorProto, helper, numpy_helper

from keraslm.config import ModelConfig
from keraslm.config.shapes import by_round, mogrifier_shapes
from keraslm.runs.weights import Weights

if TYPE_CHECKING:
    from keraslm_export.graph import Before, Writer


def add_scan(
    writer: Writer, config: ModelConfig, name: str, weights: Weights, x: str, before: Before, last: list[str]
) -> str:
    """Add a layer of the inputs x, `(T, N, D)`.

    Args:
        writer: of the graph.
        config: of the network.
        name: of the layer.
        weights: of the layer, with four gates.
        x: name of the inputs.
        before: what the layer starts from.
        last: names of the last h and c, `(1, N, H)`, to be added.

    Returns:
        the name of the hidden states, `(T, N, H)`.
    """
    if before.state:
        states = [writer.add("Squeeze", state, [0], output=f"{name}_{n}") for n, state in enumerate(before.state)]
    else:
        rows = writer.add("Shape", x, start=1, end=2)
        shape = writer.add("Concat", rows, [len(weights["recurrent_kernel"])], axis=0)
        states = [writer.add("ConstantOfShape", shape)] * 2
    inputs = [x if config.mogrifier_rounds else _projected(writer, weights, x)]
    if before.lengths:
        inputs.append(_is_token(writer, x, before.lengths))
    hidden = f"{name}_hidden"
    after = [f"{name}_after_h", f"{name}_after_c"]
    body = _step(writer, config, f"{name}_step", weights, masked=bool(before.lengths))
    writer.node("Scan", [*states, *inputs], *after, hidden, body=body, num_scan_inputs=len(inputs))
    for state, output in zip(after, last, strict=True):
        writer.add("Unsqueeze", state, [0], output=output)
    return hidden


def _projected(writer: Writer, weights: Weights, x: str) -> str:
    """`x @ kernel + bias` for all steps in one product."""
    return writer.add("Add", writer.add("MatMul", x, weights["kernel"]), weights["bias"])


def _is_token(writer: Writer, x: str, lengths: str) -> str:
    """Whether a step is before the end of its row, bool `(T, N, 1)`."""
    steps = writer.add("Cast", writer.add("Squeeze", writer.add("Shape", x, start=0, end=1)), to=TensorProto.INT32)
    number = writer.add("Range", np.int32(0), steps, np.int32(1))
    return writer.add("Less", writer.add("Unsqueeze", number, [1, 2]), writer.add("Unsqueeze", lengths, [1]))


def _step(writer: Writer, config: ModelConfig, name: str, weights: Weights, masked: bool) -> GraphProto:
    """The graph of one step, from h, c, `(N, H)`, and the input of the step to h, c and the output.

    With `masked`, its last input is bool `(N, 1)`: where it is False, h and c stay.
    """
    body = type(writer)()

    def add(kind: str, *inputs: Any, **attributes: Any) -> str:
        return body.add(kind, *inputs, output=f"{name}_{len(body.nodes)}", **attributes)

    h_before, c_before, x, is_token = h, c, _, _ = [f"{name}_{part}" for part in ("h", "c", "x", "is_token")]
    inputs = [(x, TensorProto.FLOAT)]
    z = x
    names = mogrifier_shapes(1, 1, config.mogrifier_rounds, config.mogrifier_rank)
    for number, factors in enumerate(by_round([*names], config.mogrifier_rank), start=1):
        gate = h if number % 2 else x
        for factor in factors:
            gate = add("MatMul", gate, weights[factor])
        gate = add("Mul", add("Sigmoid", gate), np.float32(2))
        x, h = (add("Mul", gate, x), h) if number % 2 else (x, add("Mul", gate, h))
    if config.mogrifier_rounds:
        z = add("Add", add("MatMul", x, weights["kernel"]), weights["bias"])
    z = add("Add", z, add("MatMul", h, weights["recurrent_kernel"]))
    i, f, g, o = (f"{name}_{gate}" for gate in "ifgo")
    body.node("Split", [z], i, f, g, o, axis=1)
    if config.input_gate == "capped":
        i = add("Min", i, add("Neg", f))
    kept, new = add("Mul", add("Sigmoid", f), c), add("Mul", add("Sigmoid", i), add("Tanh", g))
    c = add("Add", kept, new)
    h = output = add("Mul", add("Sigmoid", o), add("Tanh", c))
    if masked:
        inputs.append((is_token, TensorProto.BOOL))
        h, c = add("Where", is_token, h, h_before), add("Where", is_token, c, c_before)
    results = [h, c, add("Identity", output)]
    floats = [(h_before, TensorProto.FLOAT), (c_before, TensorProto.FLOAT)]
    return helper.make_graph(
        body.nodes,
        name,
        [helper.make_tensor_value_info(value, kind, None) for value, kind in (*floats, *inputs)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in results],
        [numpy_helper.from_array(array, constant) for constant, array in body.constants.items()],
    )
