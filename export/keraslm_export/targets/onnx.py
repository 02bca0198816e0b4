"""Target `onnx`: the model file of keraslm.

Contract: `keraslm.scoring.contract`, with the words of `docs/reference/onnx-file.md`. Read by keraslm, and by
`examples/onnx_client/client.py` with onnxruntime and NumPy alone. Any network with an ONNX node for its cell.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from keraslm.runs.run import Run
from keraslm.scoring import contract
from keraslm.scoring.contract import ModelInfo, Vocabulary
from keraslm.system import VERSION
from keraslm_export import targets, verify
from keraslm_export.convert import write_graph

if TYPE_CHECKING:
    from onnx import ModelProto

    from keraslm_export.graph import Softmax, Writer

NAME = "onnx"
INT8 = True


def check(run: Run) -> None:
    """Every run that has an ONNX graph fits."""


def write(run: Run, path: Path, options: targets.Options) -> targets.ExportReport:
    return write_graph(targets.graph_of(NAME), run, path, options)


def names(run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return contract.INPUTS, contract.OUTPUTS


def build(run: Run, softmax: Softmax, writer: Writer) -> ModelProto:
    from keraslm_export.graph import build_model

    return build_model(run.config.model, run.read_weights(), softmax, writer)


def metadata(run: Run, precision: str) -> dict[str, str]:
    return model_info(run, precision).to_metadata()


def compare(run: Run, data: bytes) -> verify.Verification:
    return verify.compare(run, data)


def opened(run: Run, path: Path, lines: list[str]) -> verify.Opened:
    return verify.opened_model(path, lines, run.config.data.context)


def companions(run: Run, path: Path) -> dict[Path, bytes]:
    return {}


def model_info(run: Run, precision: str = "float32") -> ModelInfo:
    model = run.config.model
    return ModelInfo(
        **vars(Vocabulary.of(run.tokenizer)),
        keraslm_version=VERSION,
        num_layers=len(model.sizes),
        hidden_size=max(model.sizes),
        embedding_dim=model.embedding_size,
        valid_perplexity=float(run.trained_epoch().get("val_perplexity", "nan")),
        config=json.dumps(run.config.to_dict()),
        softmax=model.softmax,
        precision=precision,
    )
