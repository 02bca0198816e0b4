"""The nodes of GRU and RNN layers, which tf2onnx does not make: of stock Keras layers it makes a `Loop`.

So tf2onnx converts what lies below the layers and what lies above them, with an output and an input of the graph where
they belong, and `add_layers` puts them there:

    input_ids -> embedding -> BELOW    [ GRU_0 -> GRU_1 -> ... ]    ABOVE -> softmax -> log_probs

Gates: ONNX has them in the order of Keras, z, r, h, and `linear_before_reset` is Keras' `reset_after`. Directions and
activations are those of ONNX where a node does not say: forward; sigmoid and tanh.

Letters: `N` rows, `T` steps, `L` layers, `H` units of the widest layer, `D` inputs of a layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keraslm.config import ModelConfig
from keraslm.runs.weights import Weights
from keraslm.scoring import contract
from keraslm_export.simplify import add_tensor

ABOVE = "above"  # input of the graph: hidden states of the last layer, (T, N, H)


def add_layers(graph: Any, config: ModelConfig, weights: Weights) -> None:
    """Put the recurrent layers into a graph, with the state as inputs and outputs, in place.

    There is no c in these cells: `c0` is passed on as `next_c0`, so that a client needs to know nothing of the cell.

    Args:
        graph: an `onnx.GraphProto` from ids, targets and `ABOVE` to log-probabilities, those of targets, and the
            embeddings `(T, N, D)`; afterwards with the inputs and outputs of the contract, in that order.
        config: names cell and sizes.
        weights: by name; kernels `(D, gates * units)` as Keras has them.
    """
    from onnx import TensorProto, helper

    inputs = {value.name: value for value in graph.input}
    log_probs, of_targets, below = graph.output
    for name in (contract.H0, contract.C0):
        inputs[name] = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    after = [helper.make_tensor_value_info(f"after_{name}", TensorProto.FLOAT, None) for name in ("h", "c")]
    x, states = below.name, []
    for number in range(len(config.sizes)):
        x, state = _add_layer(graph, config, number, weights, x)
        states.append(state)
    graph.node.append(helper.make_node("Concat", states, [after[0].name], axis=0))
    graph.node.append(helper.make_node("Identity", [contract.C0], [after[1].name]))
    for node in graph.node:
        node.input[:] = [x if name == ABOVE else name for name in node.input]
    values = [inputs[name] for name in contract.INPUTS], [log_probs, *after, of_targets]
    del graph.input[:], graph.output[:]
    graph.input.extend(values[0])
    graph.output.extend(values[1])


def _add_layer(graph: Any, config: ModelConfig, number: int, weights: Weights, x: str) -> tuple[str, str]:
    """Names of a layer's hidden states, `(T, N, units)`, and of its last, `(1, N, H)`."""
    from onnx import helper

    name, units, widest = f"{config.cell}_{number}", config.sizes[number], max(config.sizes)

    def constant(what: str, value: Any) -> str:
        return add_tensor(graph, f"{name}_{what}", value)

    kernel, recurrent, bias = (weights[f"{name}/{part}"] for part in ("kernel", "recurrent_kernel", "bias"))
    both = bias if config.cell == "gru" else np.stack([bias, np.zeros_like(bias)])  # of x and of h
    arrays = {"w": kernel.T[None], "r": recurrent.T[None], "b": both.reshape(1, -1)}
    w, r, b = (constant(part, value) for part, value in arrays.items())
    bounds = {"starts": [number, 0], "ends": [number + 1, units], "axes": [0, 2]}
    plane = [constant(part, np.array(value, np.int64)) for part, value in bounds.items()]
    options = {"linear_before_reset": 1} if config.cell == "gru" else {}
    nodes = [
        helper.make_node("Slice", [contract.H0, *plane], [f"{name}_before"]),
        helper.make_node(
            config.cell.upper(),
            [x, w, r, b, "", f"{name}_before"],
            [f"{name}_all", f"{name}_last"],
            hidden_size=units,
            **options,
        ),
        helper.make_node("Squeeze", [f"{name}_all", constant("axis", np.array([1]))], [f"{name}_hidden"]),
    ]
    last = f"{name}_last"
    if units < widest:
        pads = constant("pads", np.array([0, 0, 0, 0, 0, widest - units]))
        nodes.append(helper.make_node("Pad", [last, pads], [f"{name}_wide"]))
        last = f"{name}_wide"
    graph.node.extend(nodes)
    return f"{name}_hidden", last
