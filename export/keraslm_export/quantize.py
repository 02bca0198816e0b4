"""A model file whose large products are of 8-bit integers, and the check that it still says what the other says.

Weights become int8, symmetric, with one scale a column:

    LSTM             -> DynamicQuantizeLSTM: onnxruntime finds the scale of inputs and states at each call (it has no
                        such node for GRU and RNN layers, which are exported in float32 only)
    MatMul + Add     -> QuantizeLinear + MatMulIntegerToFloat, where the left side is a hidden state, of the last layer
                        or of an expert: that lies in (-1, 1), so the scale is 1/127 whatever is in the batch
                        DynamicQuantizeMatMul, inside the tails of an adaptive softmax, whose left side has no bound
    Gather           -> a row of the embedding is int8 and has one scale

Weights go to +-63 and not to +-127: on x86 processors without VNNI (before Ice Lake and Zen 4), onnxruntime adds pairs
of products in 16 bits, which 8-bit weights overflow without a sign of it. The file is right on every machine.

The scales of `DynamicQuantizeLSTM` are those of a whole batch, so that a score depends on the lines beside it: between
lines scored alone and 64 at a time, tokens of PTB differed by 0.01 nats at the mean and 0.07 at most (200 units,
adaptive softmax). In float32 they do not differ at all, or by rounding.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import ExportError, TextError
from keraslm.perplexity import perplexity
from keraslm.runs.run import Run
from keraslm.scoring.measures import LineScore
from keraslm.scoring.scorer import load
from keraslm.text.corpus import open_texts
from keraslm.text.files import TextFile
from keraslm_export.simplify import add_tensor, constants_of, projections, replace, tidy

DOMAIN = "com.microsoft"
LARGEST = 63  # of a weight
TOLERANCE = 0.005  # relative difference of perplexities

_TAIL = 2000  # lines of the training text, where there is no other

_ON_THE_WAY = ("Squeeze", "Transpose", "Slice", "GatherND")  # nodes that pass numbers on as they are


def quantized(proto: Any) -> Any:
    """A graph of the same inputs and outputs with int8 weights.

    Args:
        proto: an `onnx.ModelProto` in float32, as `keraslm_export.convert` makes it, without folded biases.

    Returns:
        a new `onnx.ModelProto`; the same bytes for the same graph.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    made.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    _quantize_projections(made.graph)
    _quantize_lstms(made.graph)
    _quantize_embedding(made.graph)
    tidy(made.graph)
    return made


def check_int8(proto: Any, num_layers: int) -> None:
    """One quantised LSTM node a layer, no control flow, and no large matrix left in float32.

    Raises:
        ExportError: naming what was found.
    """
    nodes = Counter(node.op_type for node in proto.graph.node)
    large = [
        name
        for name, value in constants_of(proto.graph).items()
        if value.dtype == np.float32 and value.ndim > 1 and min(value.shape[-2:]) > 1
    ]
    loops = {name: nodes[name] for name in ("Loop", "Scan", "If") if nodes[name]}
    if nodes["DynamicQuantizeLSTM"] != num_layers or nodes["LSTM"] or loops or large:
        raise ExportError(
            f"The int8 graph has {nodes['DynamicQuantizeLSTM']} quantised and {nodes['LSTM']} other LSTM nodes, "
            f"control flow {loops or 'none'} and float32 matrices {', '.join(large) or 'none'}, but must have "
            f"{num_layers} quantised LSTM nodes and nothing of the others. Not published."
        )


def _quantize_projections(graph: Any) -> None:
    from onnx import helper

    source = {name: node for node in graph.node for name in node.output}
    scale = add_tensor(graph, "hidden_scale", np.array(1 / 127, np.float32))
    zero = add_tensor(graph, "hidden_zero", np.array(128, np.uint8))
    constants = constants_of(graph)
    additions = {product.output[0]: addition for product, addition, *_ in projections(graph)}
    kernels: dict[str, list[str]] = {}  # used by several products
    for product in [node for node in graph.node if node.op_type == "MatMul"]:
        addition = additions.get(product.output[0])
        name, bias = (addition.output[0], addition.input[1]) if addition else (product.output[0], "")
        kernel = product.input[1]
        if kernel not in kernels:
            kernels[kernel] = _weights(graph, kernel, constants[kernel], axis=0)
        weights = kernels[kernel]
        if _is_hidden(product.input[0], source):
            nodes = [
                helper.make_node("QuantizeLinear", [product.input[0], scale, zero], [f"{name}_input"]),
                helper.make_node(
                    "MatMulIntegerToFloat",
                    [f"{name}_input", weights[0], scale, weights[1], zero, weights[2], bias],
                    [name],
                    domain=DOMAIN,
                ),
            ]
        else:
            nodes = [
                helper.make_node("DynamicQuantizeMatMul", [product.input[0], *weights, bias], [name], domain=DOMAIN)
            ]
        replace(graph, [product, addition] if addition else [product], nodes)


def _is_hidden(name: str, source: dict[str, Any]) -> bool:
    """Whether a tensor holds hidden states of an LSTM or of the experts of a mixture, which lie in (-1, 1)."""
    while source[name].op_type in _ON_THE_WAY:
        name = source[name].input[0]
    return source[name].op_type in ("LSTM", "Tanh")


def _quantize_lstms(graph: Any) -> None:
    from onnx import helper

    constants = constants_of(graph)
    for node in [node for node in graph.node if node.op_type == "LSTM"]:
        x, kernel, recurrent, bias, lengths, h, c = node.input
        name = node.output[0]
        # The node wants the transposes, (1, inputs, 4H), and their scales as (1, 4H).
        w, r = (
            _weights(graph, f"{name}_{part}", constants[weight].transpose(0, 2, 1), axis=1)
            for part, weight in (("kernel", kernel), ("recurrent", recurrent))
        )
        inputs = [x, w[0], r[0], bias, lengths, h, c, "", *w[1:], *r[1:]]
        made = helper.make_node("DynamicQuantizeLSTM", inputs, list(node.output), domain=DOMAIN)
        made.attribute.extend(node.attribute)
        replace(graph, [node], [made])


def _quantize_embedding(graph: Any) -> None:
    from onnx import TensorProto, helper

    constants = constants_of(graph)
    gather = next(node for node in graph.node if node.op_type == "Gather" and constants[node.input[0]].ndim == 2)
    ids, name = gather.input[1], gather.output[0]
    values, scales = quantized_weights(constants[gather.input[0]], axis=1)
    rows = [add_tensor(graph, f"{name}_{part}", value) for part, value in (("int8", values), ("scale", scales))]
    nodes = [
        helper.make_node("Gather", [rows[0], ids], [f"{name}_integers"]),
        helper.make_node("Gather", [rows[1], ids], [f"{name}_scales"]),
        helper.make_node("Cast", [f"{name}_integers"], [f"{name}_floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_floats", f"{name}_scales"], [name]),
    ]
    replace(graph, [gather], nodes)


def _weights(graph: Any, name: str, weight: NDArray[np.float32], axis: int) -> list[str]:
    """Add a weight's integers, scales and zero points to a graph; returns their names."""
    values, scales = quantized_weights(weight, axis)
    scales = scales.squeeze(axis)
    parts = {"int8": values, "scale": scales, "zero": np.zeros(scales.shape, np.int8)}
    return [add_tensor(graph, f"{name}_{part}", value) for part, value in parts.items()]


def quantized_weights(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The nearest integers in -63 to 63, and the scales with which they are multiplied.

    Args:
        weight: of any shape.
        axis: along which numbers share a scale.

    Returns:
        int8 of the weight's shape, and float32 with 1 in place of `axis`.

    Example:
        >>> quantized_weights(np.array([[1.0, -2.0], [0.25, 0.0]], np.float32), axis=1)[0].tolist()
        [[32, -63], [63, 0]]
    """
    scales = np.abs(weight).max(axis=axis, keepdims=True) / np.float32(LARGEST)
    scales = np.where(scales > 0, scales, np.float32(1)).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales


def comparison_text(run: Run, path: str | Path | None = None) -> tuple[str, list[str]]:
    """The text on which two files of a run are compared.

    Args:
        run: the run.
        path: of the text; None takes the run's validation text, or the end of its training text.

    Returns:
        its name and its lines.

    Raises:
        TextError: it has no lines, or cannot be read; or none was given and the run's texts are not there.
    """
    if path is not None:
        name, lines = str(path), list(TextFile(path, run.config.data.errors))
    else:
        name, lines = _own_text(run)
    if not lines:
        raise TextError(f"{name}: the text is empty; int8 is compared with float32 on some lines.")
    return name, lines


def _own_text(run: Run) -> tuple[str, list[str]]:
    try:
        train, valid = open_texts(run.config.data)
        if valid:
            return valid.name, list(valid)
        return f"the end of {train.name}", list(deque(train, _TAIL))
    except TextError as error:
        raise TextError(
            f"{run.path}: int8 is compared with float32 on a text, but the run's own cannot be read ({error}) "
            "Name one: --text"
        ) from error


def compare_files(
    float32: Path, int8: Path, lines: Iterable[str], context: str, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Score a text with both files, by turns, and refuse the second if its perplexity is another.

    Args:
        float32, int8: model files.
        lines: the text.
        context: as for `keraslm.Scorer.score_lines`.
        tolerance: largest relative difference of the perplexities.

    Returns:
        `tokens`; `perplexity`, `bytes` and `tokens_per_second` of each, in the order float32, int8; and `difference`,
        relative, positive where int8 is worse.

    Raises:
        ExportError: when the difference is above `tolerance` or not a number.
    """
    # Both read ahead by the same windows, so each window is scored by the one and then by the other.
    lines = list(lines)
    scored = [load(path, "cpu").score_lines(lines, context) for path in (float32, int8)]
    nats: tuple[list[float], list[float]] = ([], [])
    seconds, tokens = [0.0, 0.0], 0
    for _ in lines:
        for number, scores in enumerate(scored):
            start = time.perf_counter()
            line: LineScore = next(scores)
            seconds[number] += time.perf_counter() - start
            nats[number].append(-math.fsum(line.logprobs))
        tokens += len(line.logprobs)
    perplexities = [perplexity(math.fsum(part), tokens) for part in nats]
    difference = perplexities[1] / perplexities[0] - 1
    if not abs(difference) <= tolerance:
        raise ExportError(
            f"The int8 model has perplexity {perplexities[1]:.4f} and the float32 model {perplexities[0]:.4f}: a "
            f"difference of {100 * difference:+.2f} %, but at most {100 * tolerance:g} % are allowed (--tolerance). "
            "Not published. Export without --int8."
        )
    return {
        "tokens": tokens,
        "perplexity": perplexities,
        "difference": difference,
        "bytes": [path.stat().st_size for path in (float32, int8)],
        "tokens_per_second": [tokens / spent for spent in seconds],
    }
