"""Target `sherpa-streaming`: one token at a time, for the `lm` of an OnlineRecognizer of sherpa-onnx.

    inputs    x             int64    [N, 1]      the previous token; the begin symbol first
              h0, c0        float32  [L, N, H]   state before it; zeros at the start of a sentence
    outputs   log_softmax   float32  [N, V]      distribution of the next token, natural logarithm
              next_h0, next_c0                   state after it

`L` layers of `H` units, `N` rows, `V` vocabulary. Tensors are read by position. The metadata `num_layers`,
`hidden_size` and `sos_id` are required: the process ends if one is missing. Read by the Python and C++ clients, for
shallow fusion (`lm_shallow_fusion=True`, the default); without it, the client expects a different graph. Requirements:
`keraslm_export.targets.sherpa`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keraslm.runs.run import Run
from keraslm.scoring import contract
from keraslm_export import targets, verify
from keraslm_export.convert import write_graph
from keraslm_export.targets import sherpa

if TYPE_CHECKING:
    from onnx import ModelProto

    from keraslm_export.graph import Softmax, Writer

NAME = "sherpa-streaming"
INT8 = True
INPUTS = ("x", contract.H0, contract.C0)
OUTPUTS = ("log_softmax", contract.NEXT_H0, contract.NEXT_C0)
WAYS = "alone - in a batch"


def check(run: Run) -> None:
    sherpa.check(run, NAME)


def write(run: Run, path: Path, options: targets.Options) -> targets.ExportReport:
    return write_graph(targets.graph_of(NAME), run, path, options)


def names(run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return INPUTS, OUTPUTS


def build(run: Run, softmax: Softmax, writer: Writer) -> ModelProto:
    from onnx import TensorProto, helper

    from keraslm_export.graph import add_embedding, add_softmax, add_stacked_layers, assemble

    config, weights = run.config.model, run.read_weights()
    writer.constant(contract.TARGETS, np.zeros((1, 0), np.int64))  # no known targets: distributions of every step
    x = add_stacked_layers(writer, config, weights, add_embedding(writer, weights, "x"))
    add_softmax(writer, config, weights, x, softmax)
    writer.add("Squeeze", contract.LOG_PROBS, [1], output=OUTPUTS[0])
    state = [len(config.sizes), "N", config.sizes[0]]
    shapes = dict.fromkeys((*INPUTS, *OUTPUTS), state) | {"x": ["N", 1], OUTPUTS[0]: ["N", run.tokenizer.vocab_size]}

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(
            name, TensorProto.INT64 if name == "x" else TensorProto.FLOAT, shapes[name]
        )

    return assemble(writer, list(map(value, INPUTS)), list(map(value, OUTPUTS)))


def metadata(run: Run, precision: str) -> dict[str, str]:
    return sherpa.metadata(run, NAME, precision)


def compare(run: Run, data: bytes) -> verify.Verification:
    """One token per call, the rows of a batch together and alone, against one pass of Keras."""
    session, rng = verify.open_graph(data), np.random.default_rng(0)
    largest, alone = [], []
    for shape in verify.SHAPES:
        ids = rng.integers(0, run.tokenizer.vocab_size, shape)
        found = _log_probs(session, run, ids)
        largest.append(np.abs(found - verify.keras_log_probs(run, ids)).max())
        alone.append(np.abs(found - np.concatenate([_log_probs(session, run, row[None]) for row in ids])).max())
    return verify.accepted(largest, alone, WAYS)


def _log_probs(session: Any, run: Run, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log-probabilities `(N, T, V)` after each of the ids `(N, T)`."""
    return np.stack(list(_steps(session, run, ids)), axis=1)


def _steps(session: Any, run: Run, ids: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Log-probabilities `(N, V)` of each step, one call per step."""
    sizes = run.config.model.sizes
    h = c = np.zeros((len(sizes), len(ids), sizes[0]), np.float32)
    for x in ids.T:
        found, h, c = session.run(list(OUTPUTS), dict(zip(INPUTS, (x[:, None], h, c), strict=True)))
        yield found


def opened(run: Run, path: Path, lines: list[str]) -> verify.Opened:
    session, batches, end = verify.open_graph(path), sherpa.encoded(run, lines), run.tokenizer.eos_id
    tokens = sherpa.tokens_of(batches)

    def logprob(batch: sherpa.Sentences) -> float:
        rows, steps = np.arange(len(batch.x)), _steps(session, run, batch.inputs(end))
        picked = [found[rows, ids] for found, ids in zip(steps, batch.targets(end).T, strict=True)]
        return float(batch.total(np.stack(picked, axis=1)).sum())

    return tokens, lambda: float(np.exp(-sum(map(logprob, batches)) / tokens))


def companions(run: Run, path: Path) -> dict[Path, bytes]:
    return {}
