"""From a run folder to a model file: `export` in the user's process, the conversion itself in a new one.

A process has one Keras backend, and tf2onnx converts TensorFlow code. So the conversion runs in a new process with the
TensorFlow backend, on the CPU.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keraslm import arguments
from keraslm.config import StrPath, user_path
from keraslm.errors import UsageError
from keraslm.runs.files import paths_of
from keraslm.runs.folder import LATEST
from keraslm.runs.run import Run
from keraslm.scoring.contract import ModelInfo, Vocabulary
from keraslm.scoring.seal import sealed
from keraslm.system import VERSION
from keraslm.system.atomic import temporary_file
from keraslm.system.backend import require, select_backend
from keraslm.system.outputs import check_outputs, output_file
from keraslm.system.processes import Workers
from keraslm_export import verify


@dataclass(frozen=True)
class ExportReport(verify.Verification):
    """A written model file and the results of its verification.

    Attributes:
        path: of the file.
        bytes: its size.
        recurrent_nodes: number of its `LSTM`, `GRU` or `RNN` nodes, one per layer.
        int8: comparison of 8-bit weights with float32; None for a float32 file.
    """

    path: Path
    bytes: int
    recurrent_nodes: int
    int8: verify.Int8Comparison | None = None


def export(
    run: Run | StrPath = LATEST,
    path: StrPath = "model.onnx",
    *,
    int8: bool = False,
    text: StrPath | None = None,
    tolerance: float = verify.INT8_TOLERANCE,
) -> ExportReport:
    """Write a run as one ONNX file. The file appears only if its verification passes.

    Args:
        run: a run or its folder.
        path: the file to write; an existing file is replaced.
        int8: write 8-bit weights, if their perplexity on a text agrees with that of float32.
        text: path of that text. Default: the run's validation text, or the end of its training text.
        tolerance: largest relative difference of the two perplexities.

    Raises:
        UsageError: ONNX cannot express the network, or the arguments contradict each other.
        RunError: the run is damaged, or its weights are not finite.
        TextError: the text is empty or cannot be read.
        ExportError: the conversion failed, the graph differs from Keras, or int8 changes the perplexity too much.
        WriteError: the file cannot be written.
        MissingPackageError: a package of `keraslm[export]` is missing.

    Example:
        >>> report = keraslm.export("runs/latest", "model.onnx")
        >>> report.largest_difference < 1e-4
        True
    """
    arguments.not_empty(path=path, text=text, run=None if isinstance(run, Run) else run)
    arguments.switch(int8, "int8")
    if not int8 and text is not None:
        raise UsageError("`text` is used only to compare int8 with float32; it needs `int8=True`.")
    if not arguments.number(tolerance, "tolerance") >= 0:
        raise UsageError(f"`tolerance` is {tolerance}, but must be at least 0, e.g. {verify.INT8_TOLERANCE}.")
    run = run if isinstance(run, Run) else Run.open(arguments.path(run, "run"))
    model, target = run.config.model, user_path(arguments.path(path, "path"))
    if model.not_exportable:
        raise UsageError(f"{run.path} cannot become a model file: {model.not_exportable}.")
    if int8 and model.cell != "lstm":
        raise UsageError(f"onnxruntime has no {model.cell} layers with 8-bit weights; export without `int8`.")
    for package in ("keras", "tensorflow", "tf2onnx", "onnx", "safetensors"):
        require(package, extra="export", purpose="export")
    run.read_weights()
    check_outputs({"path": target}, [*paths_of(run.path), *([text] if text else ())])
    name, lines = verify.comparison_text(run, text) if int8 else ("", [])
    with ExitStack() as stack:
        kept = "No partial file is left there, and an existing file is unchanged."
        temporary = stack.enter_context(output_file(target, kept))
        float32 = stack.enter_context(temporary_file(target)) if int8 else temporary
        verified = _convert_in_process(run, float32, *([temporary] if int8 else []))
        context = run.config.data.context
        compared = verify.compare_files(float32, temporary, name, lines, context, tolerance) if int8 else None
        size = temporary.stat().st_size
    return ExportReport(**vars(verified), path=target, bytes=size, recurrent_nodes=len(model.sizes), int8=compared)


def _convert_in_process(run: Run, *outputs: Path) -> verify.Verification:
    with Workers(1, _converter, run.path, run.weights) as workers:
        found: verify.Verification = workers.submit(outputs).result()
        return found


def _converter(run: Path, weights: str) -> Callable[[Sequence[Path]], verify.Verification]:
    """Prepare a new process, whose own output is not shown, for conversions on the CPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    null = os.open(os.devnull, os.O_WRONLY)
    for standard in (1, 2):
        os.dup2(null, standard)
    select_backend("tensorflow")
    return lambda outputs: convert(Run.open(run, weights), *outputs)


def convert(run: Run, output: Path, int8: Path | None = None) -> verify.Verification:
    """Write a float32 file, and one with 8-bit weights if `int8` is given; needs the TensorFlow backend."""
    from keraslm_export.graph import Writer, build_model, softmax_matrices
    from keraslm_export.quantize import Int8Writer
    from keraslm_export.softmax import convert_softmax

    model, vocab_size = run.config.model, run.tokenizer.vocab_size
    weights = run.read_weights()
    softmax = convert_softmax(model, vocab_size, softmax_matrices(model, weights))
    info, layers = model_info(run), len(model.sizes)
    data = _file(build_model(model, weights, softmax, Writer()), info, layers, model.cell.upper())
    verified = verify.compare(run, data)
    output.write_bytes(data)
    if int8:
        proto = build_model(model, weights, softmax, Int8Writer())
        int8.write_bytes(_file(proto, dataclasses.replace(info, precision="int8"), layers, "DynamicQuantizeLSTM"))
    return verified


def _file(proto: Any, info: ModelInfo, num_layers: int, kind: str) -> bytes:
    import onnx

    verify.check_structure(proto, num_layers, kind)
    onnx.helper.set_model_props(proto, info.to_metadata())
    onnx.checker.check_model(proto, full_check=True)
    return sealed(proto.SerializeToString())


def model_info(run: Run) -> ModelInfo:
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
    )
