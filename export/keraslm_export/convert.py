"""From a run folder to a model file: `export` in the user's process, the conversion itself in a clean one.

The conversion runs on the TensorFlow backend without a GPU whatever the backend of the training was, because only that
route gives ONNX `LSTM` nodes (and on a GPU it would meet a cuDNN operation that ONNX does not have, keras issue 21799).
A process has one Keras backend, so it gets a process of its own: `python -m keraslm_export.convert RUN OUTPUT [INT8]`,
which prints one JSON line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from keraslm import __version__
from keraslm.config import ModelConfig
from keraslm.errors import ExportError, KeraslmError, UsageError
from keraslm.runs.run import LATEST, Run
from keraslm.runs.weights import Weights, read_weights
from keraslm.scoring import contract
from keraslm.scoring.contract import ModelInfo
from keraslm.scoring.seal import sealed
from keraslm.system.atomic import atomic_path, writing
from keraslm.system.backend import require
from keraslm_export.quantize import TOLERANCE, check_int8, compare_files, comparison_text, quantized
from keraslm_export.recurrent import add_layers
from keraslm_export.simplify import fold_biases, pick_targets, share_table, tidy
from keraslm_export.verify import check_structure, compare


def export(
    run: Run | str | Path = LATEST,
    path: str | Path = "model.onnx",
    *,
    int8: bool = False,
    text: str | Path | None = None,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Write a run as one ONNX file; the file appears only after it passed its verification.

    Args:
        run: a run or its folder.
        path: of the model file; an older one is replaced.
        int8: write a file with 8-bit weights, if it has the perplexity of the float32 file on a text.
        text: that text; None takes the run's validation text, and without one the end of its training text.
        tolerance: largest relative difference of the two perplexities.

    Returns:
        the report of the verification: `cases`, `largest_difference`, `chunked_difference`, `lstm_nodes` (or
        `gru_nodes`, `rnn_nodes`), `bytes`; of an int8 file also `int8`, what `keraslm_export.quantize.compare_files`
        found, and the `text`.

    Raises:
        UsageError: the run's network has no form in ONNX, or the arguments contradict each other.
        RunError: the run is damaged, or its weights are not finite.
        TextError: the text cannot be read.
        ExportError: the conversion failed, the graph does not answer as Keras does, or int8 changes the perplexity.
        WriteError: the file cannot be written.
        MissingPackageError: the packages of `keraslm[export]` are missing.

    Example:
        >>> keraslm.export("runs/latest", "model.onnx")["largest_difference"] < 1e-4
        True
    """
    if not int8 and text is not None:
        raise UsageError("A text is scored only to compare int8 with float32: pass --int8, too.")
    if not tolerance >= 0:
        raise UsageError(f"tolerance is {tolerance}, but must be at least 0, e.g. {TOLERANCE}.")
    run = run if isinstance(run, Run) else Run.open(run)
    if run.config.model.not_exportable:
        raise UsageError(f"{run.path} cannot become a model file: {run.config.model.not_exportable}.")
    cell = run.config.model.cell
    if int8 and cell != "lstm":
        raise UsageError(f"onnxruntime has no layers of --cell {cell} with 8-bit weights: export without --int8.")
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"{target}: give the name of a file in a folder that exists, e.g. model.onnx.")
    for package in ("keras", "tensorflow", "tf2onnx", "onnx", "safetensors"):
        require(package, extra="export", purpose="export")
    read_weights(run.weights_path, run.config.model, run.tokenizer.vocab_size)
    name, lines = comparison_text(run, text) if int8 else ("", [])
    with (
        writing(target, "No part of a model is left there, and an older file is untouched."),
        atomic_path(target) as temporary,
        TemporaryDirectory(prefix="keraslm-", ignore_cleanup_errors=True) as folder,
    ):
        float32 = Path(folder) / "float32.onnx" if int8 else temporary
        report = _convert_in_subprocess(run, float32, *([temporary] if int8 else []))
        if int8:
            context = run.config.data.context
            report["int8"] = compare_files(float32, temporary, lines, context, tolerance) | {"text": name}
        report["bytes"] = temporary.stat().st_size
    return report


def _convert_in_subprocess(run: Run, *outputs: Path) -> dict[str, Any]:
    environment = os.environ | {
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "keraslm_export.convert",
            run.weights,
            *(str(p.resolve()) for p in (run.path, *outputs)),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    except json.JSONDecodeError:
        tail = " | ".join(done.stderr.strip().split("\n")[-3:])
        raise ExportError(
            f"The conversion process ended with code {done.returncode} without an answer: {tail}"
        ) from None
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]))
    if "error" in answer:
        raise ExportError(answer["error"])
    return dict(answer)


def convert(run: Run, output: Path, int8: Path | None = None) -> dict[str, Any]:
    """Convert and verify inside a process on the TensorFlow backend; files are written last.

    Args:
        run: the run.
        output: where the float32 file goes.
        int8: where a file with 8-bit weights goes, if anywhere.

    Returns:
        the report of the verification.

    Raises:
        ExportError: a graph is not what it must be.
    """
    from keraslm_export.graph import build_graph

    weights = read_weights(run.weights_path, run.config.model, run.tokenizer.vocab_size)
    config = run.config.model
    proto = _to_onnx(build_graph(config, run.tokenizer.vocab_size, weights), config, weights)
    info = model_info(run)
    smaller = quantized(proto) if int8 else None
    fold_biases(proto)
    for made in (proto, smaller):
        if config.tie_weights and made is not None:
            share_table(made.graph)
    check_structure(proto, len(config.sizes), config.cell)
    data = _file(proto, info)
    report = compare(run, data) | {f"{config.cell}_nodes": len(config.sizes)}
    output.write_bytes(data)
    if int8:
        check_int8(smaller, len(config.sizes))
        int8.write_bytes(_file(smaller, replace(info, precision="int8")))
    return report


def _file(proto: Any, info: ModelInfo) -> bytes:
    """The bytes of a model file: the graph and its metadata, whatever its precision."""
    import onnx

    onnx.helper.set_model_props(proto, info.to_metadata())
    onnx.checker.check_model(proto, full_check=True)
    return sealed(proto.SerializeToString())


def model_info(run: Run) -> ModelInfo:
    """The metadata that a run's model file carries."""
    tokenizer, model = run.tokenizer, run.config.model
    return ModelInfo(
        keraslm_version=__version__,
        tokenizer=tokenizer.to_json(),
        tokenizer_sha256=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        unk_id=tokenizer.unk_id,
        bos_id=tokenizer.eos_id,
        eos_id=tokenizer.eos_id,
        num_layers=len(model.sizes),
        hidden_size=max(model.sizes),
        embedding_dim=model.embedding_size,
        valid_perplexity=float(run.trained_epoch().get("val_perplexity", "nan")),
        config=json.dumps(run.config.to_dict()),
        softmax=model.softmax,
    )


def _to_onnx(model: Any, config: ModelConfig, weights: Weights) -> Any:
    """Trace a twin and name its inputs, outputs and free axes as the contract does."""
    import tensorflow as tf
    import tf2onnx
    from onnx import helper

    signature = [tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in model.inputs]
    # Keys in sorted order, because tf2onnx gives back a function's outputs in the order of its structured names.
    function = tf.function(
        lambda *inputs: dict(zip("abcd", model(list(inputs)), strict=False)), input_signature=signature
    )
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=contract.OPSET)
    if config.cell != "lstm":
        add_layers(proto.graph, config, weights)
    if config.softmax != "adaptive":
        pick_targets(proto.graph)
    tidy(proto.graph)
    state = [len(config.sizes), contract.BATCH, max(config.sizes)]
    shapes = dict.fromkeys((*contract.INPUTS, *contract.OUTPUTS), state)
    shapes[contract.INPUT_IDS] = [contract.BATCH, contract.TIME]
    shapes[contract.TARGETS] = shapes[contract.TARGET_LOG_PROBS] = [contract.BATCH, contract.KNOWN]
    shapes[contract.LOG_PROBS] = [contract.BATCH, contract.UNKNOWN, model.outputs[0].shape[-1]]
    for value in (*proto.graph.input, *proto.graph.output):
        value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shapes[value.name]))
    del proto.graph.value_info[:]
    proto.graph.name = "keraslm"
    proto.producer_name, proto.producer_version = "keraslm", __version__
    return proto


def _main(weights: str, run: str, *outputs: str) -> None:
    from keraslm.system.backend import select_backend

    try:
        select_backend("tensorflow")
        answer = convert(Run.open(run, weights), *map(Path, outputs))
    except KeraslmError as error:
        answer = {"error": str(error)}
    except OSError as error:  # from the system: a message for the one who knows the file's name
        if error.errno is None:
            raise
        answer = {"errno": error.errno}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main(*sys.argv[1:])
