"""Target `sherpa-rescoring`: whole hypotheses, for the `lm` of an OfflineRecognizer of sherpa-onnx.

    inputs    x        int64    [N, L]   token ids without begin and end symbol, padded with 0; L may be 0
              x_lens   int64    [N]      tokens of each row
    outputs   nll      float32  [N]      negative log-probability of the tokens and the end symbol, natural logarithm

Tensors are read by position. The begin symbol is added inside the graph. All clients of sherpa-onnx read this file:
Python, C++, C, Android, iOS, JavaScript, WASM and C#. They read none of the metadata. Requirements:
`keraslm_export.targets.sherpa`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keraslm.runs.run import Run
from keraslm.scoring import contract
from keraslm_export import targets, verify
from keraslm_export.convert import write_graph
from keraslm_export.targets import sherpa

if TYPE_CHECKING:
    from onnx import ModelProto

    from keraslm_export.graph import Softmax, Writer

NAME = "sherpa-rescoring"
INT8 = True
INPUTS = ("x", "x_lens")
OUTPUTS = ("nll",)
SHAPES = ((1, 0), *verify.SHAPES)  # rows x longest sentence
WAYS = "per token, alone - in a batch"


def check(run: Run) -> None:
    sherpa.check(run, NAME)


def write(run: Run, path: Path, options: targets.Options) -> targets.ExportReport:
    return write_graph(targets.graph_of(NAME), run, path, options)


def names(run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return INPUTS, OUTPUTS


def build(run: Run, softmax: Softmax, writer: Writer) -> ModelProto:
    from onnx import TensorProto, helper

    from keraslm_export.graph import Before, add_embedding, add_layers, add_softmax, assemble

    config, weights = run.config.model, run.read_weights()
    inside = _add_targets(writer, run.tokenizer.eos_id)
    x, _ = add_layers(writer, config, weights, add_embedding(writer, weights, "inputs"), lambda _: Before())
    add_softmax(writer, config, weights, x, softmax)
    counted = writer.add("Where", inside, contract.TARGET_LOG_PROBS, np.float32(0))
    total = writer.add("ReduceSum", counted, [1], keepdims=0)
    writer.node("Neg", [total], OUTPUTS[0])
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.INT64, ["N", "L"]), value("x_lens", TensorProto.INT64, ["N"])]
    return assemble(writer, inputs, [value("nll", TensorProto.FLOAT, ["N"])])


def _add_targets(writer: Writer, end: int) -> str:
    """Add `inputs`, the end symbol and then x, and the contract's `targets`, x and then the end symbol, `(N, L + 1)`.

    Returns:
        the name of booleans, `(N, L + 1)`: whether a target is a token of the row or its end symbol.
    """
    symbol = writer.constant("end_symbol", np.int64(end))
    inputs = writer.add("Pad", "x", [0, 1, 0, 0], symbol, output="inputs")
    followed = writer.add("Pad", "x", [0, 0, 0, 1], symbol)
    steps = writer.add("Squeeze", writer.add("Shape", inputs, start=1))
    place = writer.add("Range", np.int64(0), steps, np.int64(1))
    lengths = writer.add("Unsqueeze", "x_lens", [1])
    last = writer.add("Equal", place, lengths)
    writer.add("Where", last, symbol, followed, output=contract.TARGETS)
    return writer.add("LessOrEqual", place, lengths)


def metadata(run: Run, precision: str) -> dict[str, str]:
    return sherpa.metadata(run, NAME, precision)


def compare(run: Run, data: bytes) -> verify.Verification:
    """Differences per token, since `nll` is a sum; the rows of a batch are scored together and alone."""
    session, end = verify.open_graph(data), run.tokenizer.eos_id
    largest, alone = [], []
    for batch in sherpa.random_sentences(run, SHAPES):
        found = _nll(session, batch)
        log_probs = verify.keras_log_probs(run, batch.inputs(end))
        expected = batch.total(np.take_along_axis(log_probs, batch.targets(end)[..., None], axis=2)[..., 0])
        tokens = batch.x_lens + 1
        largest.append(np.max(np.abs(found + expected) / tokens))
        single = np.concatenate([_nll(session, row) for row in batch.rows()])
        alone.append(np.max(np.abs(found - single) / tokens))
    return verify.accepted(largest, alone, WAYS)


def _nll(session: Any, batch: sherpa.Sentences) -> Any:
    return session.run(list(OUTPUTS), dict(zip(INPUTS, batch, strict=True)))[0]


def opened(run: Run, path: Path, lines: list[str]) -> verify.Opened:
    session, batches = verify.open_graph(path), sherpa.encoded(run, lines)
    tokens = sherpa.tokens_of(batches)
    return tokens, lambda: float(np.exp(sum(_nll(session, batch).sum(dtype=np.float64) for batch in batches) / tokens))


def companions(run: Run, path: Path) -> dict[Path, bytes]:
    return {}
