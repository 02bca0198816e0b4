"""Is the ONNX graph the trained network? Structure first, then numbers: Keras against onnxruntime."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import ExportError
from keraslm.runs.run import Run
from keraslm.scoring import contract

TOLERANCE = 1e-4  # nats, on a log-probability; float32 differences of these graphs are near 1e-6
SHAPES = ((1, 1), (1, 40), (3, 7), (8, 20))  # rows x steps


def check_structure(proto: Any, num_layers: int, cell: str = "lstm") -> None:
    """One recurrent node a layer, no control flow, the contract's names, every weight finite.

    Args:
        proto: an `onnx.ModelProto`.
        num_layers, cell: of the trained network.

    Raises:
        ExportError: naming what was found.
    """
    from onnx import numpy_helper

    nodes, kind = Counter(node.op_type for node in proto.graph.node), cell.upper()
    loops = {name: nodes[name] for name in ("Loop", "Scan", "If") if nodes[name]}
    others = {name: nodes[name] for name in ("LSTM", "GRU", "RNN") if nodes[name] and name != kind}
    if nodes[kind] != num_layers or others or loops:
        raise ExportError(
            f"The converted graph has {nodes[kind]} {kind} nodes and other layers {others or 'none'}, control flow "
            f"{loops or 'none'}, but must have {num_layers} {kind} nodes and nothing of the others. Not published."
        )
    found = tuple(x.name for x in proto.graph.input), tuple(x.name for x in proto.graph.output)
    if found != (contract.INPUTS, contract.OUTPUTS):
        raise ExportError(f"The converted graph has inputs and outputs {found}, not those of the contract.")
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ExportError(f"The tensor {tensor.name} of the converted graph is not finite. Not published.")


def compare(run: Run, data: bytes, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """Compare a serialised graph with the run's stateful training model, on random ids.

    Each shape is scored twice in a row with the state carried, and the second window also one step at a time in
    onnxruntime, against the same window in one pass.

    Returns:
        `cases`, `largest_difference` (Keras against onnxruntime) and `chunked_difference`, in nats.

    Raises:
        ExportError: when a difference is above `tolerance` or not a number.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    largest = chunked = 0.0
    for batch, steps in SHAPES:
        ids = rng.integers(0, run.tokenizer.vocab_size, (batch, 2 * steps))
        whole, first, second, of_targets = _onnx_answers(session, run, ids, steps)
        expected = _keras_answers(run, ids, steps)
        largest = _worst(largest, _difference(np.concatenate([first, second], axis=1), expected))
        chunked = _worst(chunked, _difference(whole[:, steps:], second))
        picked = np.take_along_axis(expected[:, :-1], ids[:, 1:, None], axis=2)[:, :, 0]
        largest = _worst(largest, _difference(of_targets, picked))
    if not _worst(largest, chunked) <= tolerance:
        raise ExportError(
            f"The exported graph differs from Keras: largest difference {largest:.3g} nats, state carried in chunks "
            f"{chunked:.3g} nats, at most {tolerance:g} is allowed. Not published."
        )
    return {"cases": len(SHAPES), "largest_difference": largest, "chunked_difference": chunked}


def _worst(a: float, b: float) -> float:
    """The larger of two; NaN when either is, which Python's `max` would lose."""
    return float(np.maximum(a, b))


def _difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest absolute difference; NaN when either holds one, so that no comparison with it passes."""
    return float(np.abs(a - b).max())


def _keras_answers(run: Run, ids: NDArray[Any], steps: int) -> NDArray[Any]:
    """Log-probabilities `(N, 2T, V)` of the training model, in two windows with the state carried."""
    import keras

    from keraslm.evaluation.reader import load_model

    model = load_model(run, batch_size=len(ids))
    windows = (ids[:, :steps], ids[:, steps:])
    return np.concatenate(
        [keras.ops.convert_to_numpy(keras.ops.log_softmax(model(window))) for window in windows], axis=1
    )


def _onnx_answers(session: Any, run: Run, ids: NDArray[Any], steps: int) -> tuple[Any, ...]:
    """One pass over all `(N, 2T, V)`, the two halves: the first in one call, the second a step a call; and the
    log-probability of each next id, `(N, 2T - 1)`, in one pass.
    """
    model = run.config.model
    zero = np.zeros((len(model.sizes), len(ids), max(model.sizes)), np.float32)

    def call(part: NDArray[Any], h: NDArray[Any], c: NDArray[Any], known: int = 0) -> list[NDArray[Any]]:
        feed = dict(zip(contract.INPUTS, (part, h, c, part[:, 1 : known + 1]), strict=True))
        return list(session.run(list(contract.OUTPUTS), feed))

    whole, *_ = call(ids, zero, zero)
    of_targets = call(ids, zero, zero, known=2 * steps - 1)[3]
    first, h, c, *_ = call(ids[:, :steps], zero, zero)
    second = []
    for t in range(steps, 2 * steps):
        log_probs, h, c, *_ = call(ids[:, t : t + 1], h, c)
        second.append(log_probs)
    return whole, first, np.concatenate(second, axis=1), of_targets
