"""From a run folder to a model file: `export` in the user's process, the conversion itself in a new one.

A process has one Keras backend, and tf2onnx converts TensorFlow code. So the conversion runs in a new process with the
TensorFlow backend, on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from keraslm import arguments
from keraslm.config import StrPath, user_path
from keraslm.errors import UsageError
from keraslm.runs.files import paths_of
from keraslm.runs.folder import LATEST
from keraslm.runs.run import Run
from keraslm.scoring.seal import sealed
from keraslm.scoring.targets import ONNX, TARGETS, Target
from keraslm.system.atomic import temporary_file
from keraslm.system.backend import require, select_backend
from keraslm.system.outputs import check_outputs, output_file
from keraslm.system.processes import Workers
from keraslm.text.paths import find_files
from keraslm_export import targets, verify
from keraslm_export.targets import ExportReport, GraphTarget, Options, TargetModule


def export(
    run: Run | StrPath = LATEST,
    path: StrPath = "model.onnx",
    *,
    target: Target = ONNX,
    int8: bool = False,
    text: StrPath | None = None,
    tolerance: float = verify.INT8_TOLERANCE,
) -> ExportReport:
    """Write a run as one ONNX file, or for a different program. It appears only if its verification passes.

    Args:
        run: a run or its folder.
        path: the file to write, which replaces an existing file; for the targets hf and web a folder.
        target: the program that the file is for: `"onnx"` for keraslm, or one of `docs/how-to/targets.md`.
        int8: write 8-bit weights, if their perplexity on a text agrees with that of float32.
        text: path of that text. Default: the run's validation text, or the end of its training text.
        tolerance: largest relative difference of the two perplexities.

    Raises:
        UsageError: ONNX or the target cannot express the run, or the arguments contradict each other.
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
    module: TargetModule = targets.module_of(arguments.choice(target, "target", TARGETS))
    if arguments.switch(int8, "int8") and not module.INT8:
        raise UsageError(f"Target {target} is written in float32 only; export without `int8`.")
    if not int8 and text is not None:
        raise UsageError("`text` is used only to compare int8 with float32; it needs `int8=True`.")
    if not arguments.number(tolerance, "tolerance") >= 0:
        raise UsageError(f"`tolerance` is {tolerance}, but must be at least 0, e.g. {verify.INT8_TOLERANCE}.")
    run = run if isinstance(run, Run) else Run.open(arguments.path(run, "run"))
    output = user_path(arguments.path(path, "path"))
    module.check(run)
    return module.write(run, output, Options(int8, text, tolerance))


def write_graph(graph: GraphTarget, run: Run, path: Path, options: Options) -> ExportReport:
    """Write a target that is one ONNX graph, and the files that belong to it; see `export`."""
    model, int8 = run.config.model, options.int8
    if int8 and (model.cell != "lstm" or model.own_step):
        kind = f"LSTMs with {model.own_step}" if model.own_step else f"{model.cell} layers"
        raise UsageError(f"onnxruntime has no {kind} and 8-bit weights; export without `int8`.")
    for package in ("keras", "tensorflow", "tf2onnx", "onnx", "safetensors"):
        require(package, extra="export", purpose="export")
    run.read_weights()
    others = graph.companions(run, path)
    outputs = {"path": path} | {other.name: other for other in others}
    check_outputs(outputs, [*paths_of(run.path), *find_files([options.text] if options.text else ())[0]])
    name, lines = verify.comparison_text(run, options.text) if int8 else ("", [])
    kept = "No partial file is left there, and an existing file is unchanged."
    compared = None
    with ExitStack() as stack:
        temporary = stack.enter_context(output_file(path, kept))
        for other, data in others.items():
            stack.enter_context(output_file(other, kept)).write_bytes(data)
        float32 = stack.enter_context(temporary_file(path)) if int8 else temporary
        verified = _convert_in_process(run, float32, *([temporary] if int8 else []), target=graph.NAME)
        if int8:
            opened = partial(graph.opened, run, lines=lines)
            compared = verify.compare_files(float32, temporary, name, opened, options.tolerance)
        size = temporary.stat().st_size
    return ExportReport(
        **vars(verified),
        path=path,
        bytes=size,
        recurrent_nodes=len(model.sizes),
        int8=compared,
        target=graph.NAME,
        others=tuple(others),
    )


def _convert_in_process(run: Run, *outputs: Path, target: str = ONNX) -> verify.Verification:
    with Workers(1, _converter, run.path, run.weights, target) as workers:
        found: verify.Verification = workers.submit(outputs).result()
        return found


def _converter(run: Path, weights: str | int, target: str) -> Callable[[Sequence[Path]], verify.Verification]:
    """Prepare a new process, whose own output is not shown, for conversions on the CPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    null = os.open(os.devnull, os.O_WRONLY)
    for standard in (1, 2):
        os.dup2(null, standard)
    select_backend("tensorflow")
    return lambda outputs: convert(Run.open(run, weights), *outputs, target=target)


def convert(run: Run, output: Path, int8: Path | None = None, *, target: str = ONNX) -> verify.Verification:
    """Write a float32 file, and one with 8-bit weights if `int8` is given; needs the TensorFlow backend."""
    from keraslm_export.graph import Writer, softmax_matrices
    from keraslm_export.quantize import Int8Writer
    from keraslm_export.softmax import convert_softmax

    graph, model = targets.graph_of(target), run.config.model
    softmax = convert_softmax(model, run.tokenizer.vocab_size, softmax_matrices(model, run.read_weights()))
    data = _file(graph, run, graph.build(run, softmax, Writer()), "float32")
    verified = graph.compare(run, data)
    output.write_bytes(data)
    if int8:
        int8.write_bytes(_file(graph, run, graph.build(run, softmax, Int8Writer(model)), "int8"))
    return verified


def _file(graph: GraphTarget, run: Run, proto: Any, precision: str) -> bytes:
    import onnx

    from keraslm_export.graph import layer_kind

    model = run.config.model
    verify.check_structure(proto, len(model.sizes), layer_kind(model, precision), *graph.names(run))
    onnx.helper.set_model_props(proto, graph.metadata(run, precision))
    onnx.checker.check_model(proto, full_check=True)
    return sealed(proto.SerializeToString())
