"""The network as an ONNX graph: one node per recurrent layer, between the embedding and the softmax.

tf2onnx converts the softmax (`keraslm_export.softmax`), but not the layers: of most layers it would make a `Loop`.
ONNX has no node for an LSTM with a step of its own, such as a Mogrifier: it becomes a `Scan` (`keraslm_export.scan`).

    input_ids -> Gather -> LSTM_0 -> LSTM_1 -> ... -> hidden -> softmax -> log_probs, target_log_probs

Shapes: `N` rows, `T` steps, `L` layers, `H` units of the widest layer, `D` inputs of a layer, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from keraslm.config import ModelConfig
from keraslm.runs.weights import Weights, layer_weights
from keraslm.scoring import contract
from keraslm.system import VERSION
from keraslm_export.scan import add_scan

Arrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
Softmax = tuple[Sequence[NodeProto], Sequence[TensorProto]]  # nodes and constants

TABLE = "embedding"

# Gates in the order of ONNX, as numbers of the gates of Keras: i, f, c, o become i, o, f, c; z, r, h stay.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (0, 1, 2), "rnn": (0,)}


class Matrix(NamedTuple):
    """A matrix of the softmax, `(rows, columns)`, and the bias of its product, `(columns,)`."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32] | None

    @property
    def joint(self) -> NDArray[np.float32]:
        """The matrix with the bias as its last row."""
        return self.kernel if self.bias is None else np.concatenate([self.kernel, self.bias[None]])


class Before(NamedTuple):
    """What a recurrent layer starts from, as names.

    Attributes:
        state: h, and c of an LSTM, `(1, N, units)`; none: zeros.
        lengths: steps of each row, int32 `(N,)`: the last state is the one after them. Empty: all steps.
    """

    state: Sequence[str] = ()
    lengths: str = ""


def softmax_matrices(config: ModelConfig, weights: Weights) -> dict[str, Matrix]:
    """The matrices of a softmax by name, e.g. `kernel` or `tail_0_projection`."""
    parts = {name.removeprefix("logits/"): value for name, value in weights.items() if name.startswith("logits/")}
    if config.tie_weights:
        parts["kernel"] = weights["embedding/embeddings"].T
    elif config.softmax == "sampled":
        parts["kernel"] = parts["kernel"].T  # one row per word in training
    return {
        name: Matrix(value, parts.get(name.removesuffix("kernel") + "bias"))
        for name, value in sorted(parts.items())  # read in any order
        if value.ndim == 2
    }


class Writer:
    """Collects the nodes and constants of a graph in float32."""

    domains: dict[str, int] = {"": contract.OPSET}

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, value: Any) -> str:
        """Add an array or a list of integers and return its name."""
        self.constants[name] = np.asarray(value, np.int64 if isinstance(value, list) else None, order="C")
        return name

    def node(self, kind: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its first output."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def add(self, kind: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output; inputs are names, or arrays that become constants."""
        output = output or f"{kind}_{len(self.nodes)}"
        names = [x if isinstance(x, str) else self.constant(f"{output}_{n}", x) for n, x in enumerate(inputs)]
        return self.node(kind, names, output, **attributes)

    def lstm(self, x: str, cells: Sequence[Arrays], *more: str) -> list[str]:
        """Add an LSTM of one or two directions; returns the names of its outputs and of its last h and c.

        Each cell is a kernel, a recurrent kernel and a bias of Keras; `more` are the names of lengths, h and c.
        """
        name, direction = f"LSTM_{len(self.nodes)}", "bidirectional" if len(cells) == 2 else "forward"
        arrays = zip(*(onnx_arrays("lstm", *cell) for cell in cells), strict=True)
        inputs = [self.constant(f"{name}_{w}", np.concatenate(parts)) for w, parts in zip("wrb", arrays, strict=True)]
        outputs = [f"{name}_{part}" for part in ("outputs", "h", "c")]
        self.node("LSTM", [x, *inputs, *more], *outputs, hidden_size=len(cells[0][1]), direction=direction)
        return outputs

    def lookup(self, table: NDArray[np.float32], ids: str) -> str:
        return self.node("Gather", [self.constant(TABLE, table), ids], "embedded")

    def layer(self, kind: str, x: str, arrays: Arrays, before: Before, *outputs: str, **attributes: Any) -> None:
        w, r, b = (self.constant(f"{outputs[0]}_{name}", value) for name, value in zip("wrb", arrays, strict=True))
        self.node(kind, [x, w, r, b, before.lengths, *before.state], *outputs, **attributes)

    def matrix(self, name: str, matrix: Matrix, tied: bool) -> None:
        """Add a matrix of the softmax. A tied one is the transposed table, which is stored once."""
        if not tied:
            self.constant(name, matrix.joint)
            return
        columns = self.node("Transpose", [TABLE], f"{name}_columns", perm=[1, 0])
        self.node("Concat", [columns, self.constant(f"{name}_bias", matrix.joint[-1:])], name, axis=0)

    def softmax(self, nodes: Sequence[NodeProto], constants: Sequence[TensorProto]) -> None:
        self.nodes.extend(nodes)
        self.constants |= {tensor.name: numpy_helper.to_array(tensor) for tensor in constants}


def build_model(config: ModelConfig, weights: Weights, softmax: Softmax, writer: Writer) -> ModelProto:
    """The complete network, from ids and state to log-probabilities and state, with the contract's names.

    A GRU or RNN layer has no c: `c0` is returned as `next_c0`, so a client need not know the cell. A new `writer` must
    be passed; it determines the precision.
    """
    x = add_stacked_layers(writer, config, weights, add_embedding(writer, weights, contract.INPUT_IDS))
    if config.cell != "lstm":
        writer.node("Identity", [contract.C0], contract.NEXT_C0)
    add_softmax(writer, config, weights, x, softmax)
    return assemble(writer, *_interface(config, len(weights["embedding/embeddings"])))


def add_embedding(writer: Writer, weights: Weights, ids: str) -> str:
    """The name of the embeddings, `(T, N, D)`, of ids `(N, T)`."""
    return writer.lookup(weights["embedding/embeddings"], writer.node("Transpose", [ids], "steps", perm=[1, 0]))


def add_stacked_layers(writer: Writer, config: ModelConfig, weights: Weights, x: str) -> str:
    """Add all layers, with the states of the contract: h of all layers in one tensor, and c in another.

    A layer narrower than the widest reads and writes the first columns of its plane of the state.

    Returns:
        the name of the hidden states, `(T, N, units)`.
    """

    def before(number: int) -> Before:
        name = f"{config.cell}_{number}"
        bounds = {"starts": [number, 0], "ends": [number + 1, config.sizes[number]], "axes": [0, 2]}
        plane = [writer.constant(f"{name}_{part}", value) for part, value in bounds.items()]
        return Before([writer.node("Slice", [state, *plane], f"{name}_{state}") for state in state_names(config)])

    x, states = add_layers(writer, config, weights, x, before)
    for number, missing in enumerate(max(config.sizes) - units for units in config.sizes):
        if missing:
            pads = writer.constant(f"{config.cell}_{number}_pads", [0, 0, 0, 0, 0, missing])
            states[number] = [writer.node("Pad", [state, pads], f"{state}_padded") for state in states[number]]
    for output, parts in zip((contract.NEXT_H0, contract.NEXT_C0), zip(*states, strict=True), strict=False):
        writer.node("Concat", parts, output, axis=0)
    return x


def add_layers(
    writer: Writer, config: ModelConfig, weights: Weights, x: str, before: Callable[[int], Before]
) -> tuple[str, list[list[str]]]:
    """Add all layers; `before` is called with the number of each.

    Returns:
        the name of the hidden states, `(T, N, units)`, and of the last h and c of each layer, `(1, N, units)`.
    """
    outputs, states = [x], []
    for number in range(len(config.sizes)):
        hidden, last = _add_layer(writer, config, number, weights, outputs[-1], before(number))
        outputs.append(hidden)
        states.append(last)
    x = outputs[-1]
    if config.skip_connections and len(states) > 1:
        x = writer.node("Sum", outputs[1:], "skip_connections")
    return x, states


def _add_layer(
    writer: Writer, config: ModelConfig, number: int, weights: Weights, x: str, before: Before
) -> tuple[str, list[str]]:
    name, units = f"{config.cell}_{number}", config.sizes[number]
    last = [f"{name}_last_{state}" for state in state_names(config)]
    if config.own_step:
        return add_scan(writer, config, name, layer_weights(config, weights, number), x, before, last), last
    options = {"linear_before_reset": 1} if config.cell == "gru" else {}  # the `reset_after` of Keras
    arrays = onnx_arrays(config.cell, *layer_weights(config, weights, number).values())
    writer.layer(config.cell.upper(), x, arrays, before, name, *last, hidden_size=units, **options)
    return writer.node("Squeeze", [name, writer.constant("directions", [1])], f"{name}_hidden"), last


def layer_kind(config: ModelConfig, precision: str) -> str:
    """The kind of the node of a recurrent layer."""
    if precision == "int8":
        return "DynamicQuantizeLSTM"
    return "Scan" if config.own_step else config.cell.upper()


def state_names(config: ModelConfig) -> tuple[str, ...]:
    """The contract's names of h, and of c if the cell has one."""
    return (contract.H0, contract.C0) if config.cell == "lstm" else (contract.H0,)


def add_softmax(writer: Writer, config: ModelConfig, weights: Weights, x: str, softmax: Softmax) -> None:
    """Add the softmax of hidden states, `(T, N, units)`: `log_probs` and `target_log_probs` of the contract.

    It reads the contract's `targets`, an input of the graph or a value of the writer.
    """
    writer.node("Transpose", [x], contract.HIDDEN, perm=[1, 0, 2])
    for name, matrix in softmax_matrices(config, weights).items():
        writer.matrix(name, matrix, config.tie_weights and name == "kernel")
    writer.softmax(*softmax)


def onnx_arrays(cell: str, kernel: Any, recurrent: Any, bias: Any) -> Arrays:
    """Kernel, recurrent kernel and bias of Keras in the gate order and the shapes of ONNX."""
    both = bias if cell == "gru" else np.stack([bias, np.zeros_like(bias)])  # of the inputs and of h

    def reordered(array: Any) -> Any:
        gates = np.split(array, len(_GATES[cell]), axis=-1)
        return np.concatenate([gates[number] for number in _GATES[cell]], axis=-1)

    return reordered(kernel).T[None], reordered(recurrent).T[None], reordered(both).reshape(1, -1)


def _interface(config: ModelConfig, vocab_size: int) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    state = [len(config.sizes), contract.BATCH, max(config.sizes)]
    shapes = dict.fromkeys((*contract.INPUTS, *contract.OUTPUTS), state)
    shapes[contract.INPUT_IDS] = [contract.BATCH, contract.TIME]
    shapes[contract.TARGETS] = shapes[contract.TARGET_LOG_PROBS] = [contract.BATCH, contract.KNOWN]
    shapes[contract.LOG_PROBS] = [contract.BATCH, contract.UNKNOWN, vocab_size]
    shapes[contract.HIDDEN] = [contract.BATCH, contract.TIME, config.sizes[-1]]

    def value(name: str) -> ValueInfoProto:
        kind = TensorProto.INT64 if name in (contract.INPUT_IDS, contract.TARGETS) else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, shapes[name])

    return list(map(value, contract.INPUTS)), list(map(value, contract.OUTPUTS))


def assemble(writer: Writer, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> ModelProto:
    """The model of the nodes of a writer that the outputs need, in their order, and of the constants that they use."""
    nodes = _needed(writer.nodes, [value.name for value in outputs])
    used = {name for node in nodes for name in node.input}
    constants = [numpy_helper.from_array(array, name) for name, array in writer.constants.items() if name in used]
    return helper.make_model(
        helper.make_graph(nodes, "keraslm", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid(*domain) for domain in writer.domains.items()],
        ir_version=8,
        producer_name="keraslm",
        producer_version=VERSION,
    )


def _needed(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> list[NodeProto]:
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(filter(None, node.input))
            kept.append(node)
    return kept[::-1]
