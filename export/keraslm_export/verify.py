"""The checks before a model file is published: structure, numbers against Keras, 8-bit weights against float32."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config import Context, StrPath
from keraslm.errors import ExportError, TextError
from keraslm.runs.run import Run, open_run_text
from keraslm.scoring import contract
from keraslm.scoring.scorer import load
from keraslm.text.files import TextFiles

TOLERANCE = 1e-4  # nats, of a log-probability; float32 differences of these graphs are near 1e-6
SHAPES = ((1, 1), (1, 40), (3, 7), (8, 20))  # rows x steps
INT8_TOLERANCE = 0.005  # relative difference of perplexities

_LAYERS = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
_CONTROL_FLOW = ("Loop", "Scan", "If")
_TAIL = 2000  # lines of the training text that replace a missing validation text


@dataclass(frozen=True)
class Verification:
    """Differences between a graph and Keras.

    Attributes:
        cases: number of shapes (rows x steps) that were compared.
        largest_difference: largest difference of a log-probability between Keras and onnxruntime, in nats.
        chunked_difference: the same between two ways of calling the graph, by default one pass and one step per call.
        ways: what the two ways are.
    """

    cases: int
    largest_difference: float
    chunked_difference: float
    ways: str = "one pass - chunks"


@dataclass(frozen=True)
class FileScore:
    """Perplexity of a model file on a text, its size in bytes, and its speed in tokens per second."""

    perplexity: float
    bytes: int
    tokens_per_second: float


@dataclass(frozen=True)
class Int8Comparison:
    """A text scored with two model files of one run."""

    text: str  # its name
    tokens: int
    float32: FileScore
    int8: FileScore

    @property
    def difference(self) -> float:
        """Relative difference of the perplexities, positive if int8 is worse."""
        return self.int8.perplexity / self.float32.perplexity - 1


def check_structure(
    proto: Any,
    num_layers: int,
    kind: str,
    inputs: Sequence[str] = contract.INPUTS,
    outputs: Sequence[str] = contract.OUTPUTS,
) -> None:
    """Check that an `onnx.ModelProto` has one recurrent node per layer, no other loop, and finite weights.

    The names of its inputs and outputs must be `inputs` and `outputs`. With the kind `"DynamicQuantizeLSTM"` no large
    matrix may be float32. An ExportError if a check fails.
    """
    from onnx import numpy_helper

    steps = [body.g for node in proto.graph.node for body in node.attribute if body.HasField("g")]  # of each `Scan`
    nodes = Counter(node.op_type for graph in (proto.graph, *steps) for node in graph.node)
    found = {name: nodes[name] for name in (*_LAYERS, *_CONTROL_FLOW) if nodes[name]}
    if found != {kind: num_layers}:
        raise ExportError(
            f"The converted graph must have {num_layers} {kind} nodes, no other layers and no other loops, but has "
            f"{', '.join(f'{count} {name}' for name, count in found.items()) or 'none of them'}. Not published."
        )
    names = tuple(x.name for x in proto.graph.input), tuple(x.name for x in proto.graph.output)
    if names != (tuple(inputs), tuple(outputs)):
        raise ExportError(f"The converted graph has inputs and outputs {names}, not those of the contract.")
    for tensor in (tensor for graph in (proto.graph, *steps) for tensor in graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ExportError(f"The tensor {tensor.name} of the converted graph is not finite. Not published.")
        large = values.ndim > 1 and min(values.shape[-2:]) > 1
        if large and values.dtype == np.float32 and kind == "DynamicQuantizeLSTM":
            raise ExportError(f"The matrix {tensor.name} of the int8 graph is float32. Not published.")


def compare(run: Run, data: bytes) -> Verification:
    """Compare a serialised graph with the run's stateful training model, on random ids.

    Each shape is scored in two windows with the state carried. onnxruntime scores them in one pass too, and the second
    with one step per call. An ExportError if a difference is above `TOLERANCE` or not a number.
    """
    session = open_graph(data)
    rng = np.random.default_rng(0)
    largest, chunked = [], []
    for batch, steps in SHAPES:
        ids = rng.integers(0, run.tokenizer.vocab_size, (batch, 2 * steps))
        one_pass, in_chunks, of_targets = _onnx_answers(session, run, ids, steps)
        expected = keras_log_probs(run, ids, windows=2)
        picked = np.take_along_axis(expected[:, :-1], ids[:, 1:, None], axis=2)[:, :, 0]
        largest += [np.abs(in_chunks - expected).max(), np.abs(of_targets - picked).max()]
        chunked.append(np.abs(one_pass - in_chunks)[:, steps:].max())
    return accepted(largest, chunked)


def open_graph(data: bytes | Path) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(
        data if isinstance(data, bytes) else str(data), providers=["CPUExecutionProvider"]
    )


def keras_log_probs(run: Run, ids: NDArray[Any], windows: int = 1) -> NDArray[np.float32]:
    """Log-probabilities `(N, T, V)` after each of the ids `(N, T)`, from the training model and a state of zeros.

    The ids are passed in windows of equal length, with the state carried.
    """
    import keras

    from keraslm.evaluation.reader import load_model

    model = load_model(run, batch_size=len(ids))
    logits = [keras.ops.convert_to_numpy(model(window)) for window in np.split(ids, windows, axis=1)]
    log_probs = keras.ops.log_softmax(np.concatenate(logits, axis=1))
    return np.asarray(keras.ops.convert_to_numpy(log_probs))


def accepted(largest: Sequence[Any], chunked: Sequence[Any], ways: str = Verification.ways) -> Verification:
    """A verification, from the differences of each shape; an ExportError if one is too large or not a number."""
    found = Verification(len(chunked), float(np.max(largest)), float(np.max(chunked)), ways)  # NaN if one of them is
    if not np.maximum(found.largest_difference, found.chunked_difference) <= TOLERANCE:
        raise ExportError(
            f"The exported graph differs from Keras: largest difference {found.largest_difference:.3g} nats; from "
            f"itself ({ways}): {found.chunked_difference:.3g} nats; at most {TOLERANCE:g} is allowed. Not published."
        )
    return found


def _onnx_answers(session: Any, run: Run, ids: NDArray[Any], steps: int) -> tuple[Any, Any, Any]:
    """Log-probabilities `(N, 2T, V)` in one pass and in calls of T, 1, 1, ... steps; those of targets `(N, 2T - 1)`."""
    model = run.config.model
    zero = np.zeros((len(model.sizes), len(ids), max(model.sizes)), np.float32)

    def call(part: NDArray[Any], h: NDArray[Any], c: NDArray[Any], known: int = 0) -> list[NDArray[Any]]:
        feed = dict(zip(contract.INPUTS, (part, h, c, part[:, 1 : known + 1]), strict=True))
        return list(session.run(list(contract.OUTPUTS), feed))

    chunks, h, c = [], zero, zero
    for chunk in np.split(ids, range(steps, 2 * steps), axis=1):
        log_probs, h, c, *_ = call(chunk, h, c)
        chunks.append(log_probs)
    return call(ids, zero, zero)[0], np.concatenate(chunks, axis=1), call(ids, zero, zero, known=2 * steps - 1)[3]


def comparison_text(run: Run, path: StrPath | None = None) -> tuple[str, list[str]]:
    """Name and lines of a text; by default the run's validation text, or the end of its training text."""
    try:
        if path is None:
            valid = open_run_text(run, "valid")
            text = valid or open_run_text(run, "train")
            assert text is not None
            name, lines = (valid.name, list(text)) if valid else (f"the end of {text.name}", list(deque(text, _TAIL)))
        else:
            name, lines = str(path), list(TextFiles([path], run.config.data.errors, run.config.data.encoding))
    except TextError as error:
        if path is not None:
            raise
        raise TextError(f"{error} Or choose a text to compare int8 with float32 on, with `text`.") from error
    if not lines:
        raise TextError(f"{name}: the text is empty, so int8 cannot be compared with float32 on it.")
    return name, lines


# A file, opened to score a text: the number of tokens in the text, and a function that returns its perplexity.
Opened = tuple[int, Callable[[], float]]


def opened_model(path: Path, lines: Sequence[str], context: Context) -> Opened:
    """Open a model file of keraslm to score a text."""
    scorer = load(path, "cpu")
    return sum(map(len, scorer.tokenizer.encode_lines(lines))), lambda: scorer.perplexity(lines, context)


def compare_files(
    float32: Path, int8: Path, text: str, opened: Callable[[Path], Opened], tolerance: float
) -> Int8Comparison:
    """Score a text with two files of one run; an ExportError if their perplexities differ too much."""
    tokens, scores = 0, []
    for path in (float32, int8):
        tokens, score = opened(path)
        start = time.perf_counter()
        perplexity = score()
        scores.append(FileScore(perplexity, path.stat().st_size, tokens / (time.perf_counter() - start)))
    found = Int8Comparison(text, tokens, *scores)
    if not abs(found.difference) <= tolerance:
        raise ExportError(
            f"The int8 model has perplexity {found.int8.perplexity:.4f} and the float32 model "
            f"{found.float32.perplexity:.4f}: the difference is {100 * found.difference:+.2f} %, but at most "
            f"{100 * tolerance:g} % is allowed (`tolerance`). Not published. Export without `int8`."
        )
    return found
