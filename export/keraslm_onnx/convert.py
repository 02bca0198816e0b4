"""From a run folder to a model file: `export` in the user's process, the conversion itself in a clean one.

The conversion runs on the TensorFlow backend without a GPU whatever the backend of the training was, because only that
route gives ONNX `LSTM` nodes (and on a GPU it would meet a cuDNN operation that ONNX does not have, keras issue 21799).
A process has one Keras backend, so it gets a process of its own: `python -m keraslm_onnx.convert RUN OUTPUT`, which
prints one JSON line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from keraslm import __version__
from keraslm.atomic import atomic_path
from keraslm.backend import require
from keraslm.checkpoint import read_weights
from keraslm.errors import ExportError, KeraslmError, UsageError
from keraslm.run import LATEST, Run
from keraslm_onnx import contract
from keraslm_onnx.contract import ModelInfo
from keraslm_onnx.opening import check_model
from keraslm_onnx.seal import sealed


def export(run: Run | str | Path = LATEST, path: str | Path = "model.onnx") -> dict[str, Any]:
    """Write a run as one ONNX file; the file appears only after it passed its verification.

    Args:
        run: a run or its folder.
        path: of the model file; an older one is replaced.

    Returns:
        the report of the verification: `cases`, `largest_difference`, `chunked_difference`, `lstm_nodes`, `bytes`.

    Raises:
        RunError: the run is damaged, or its weights are not finite.
        ExportError: the conversion failed, or the graph does not answer as Keras does.
        MissingPackageError: the packages of `keraslm[export]` are missing.

    Example:
        >>> keraslm_onnx.export("runs/latest", "model.onnx")["largest_difference"] < 1e-4
        True
    """
    run = run if isinstance(run, Run) else Run.open(run)
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"{target}: give the name of a file in a folder that exists, e.g. model.onnx.")
    for package in ("keras", "tensorflow", "tf2onnx", "onnx", "safetensors"):
        require(package, extra="export", purpose="export")
    read_weights(run.weights_path, run.config.model, run.tokenizer.vocab_size)
    try:
        with atomic_path(target) as temporary:
            report = _convert_in_subprocess(run.path, temporary)
            report["bytes"] = temporary.stat().st_size
    except OSError as error:
        raise ExportError(f"{target}: cannot be written ({error.strerror or error}).") from error
    return report


def _convert_in_subprocess(run: Path, output: Path) -> dict[str, Any]:
    environment = os.environ | {
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    done = subprocess.run(
        [sys.executable, "-m", "keraslm_onnx.convert", str(run.resolve()), str(output.resolve())],
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
    if "error" in answer:
        raise ExportError(answer["error"])
    return dict(answer)


def convert(run: Run, output: Path) -> dict[str, Any]:
    """Convert and verify inside a process on the TensorFlow backend; `output` is written last.

    Returns:
        the report of the verification.

    Raises:
        ExportError: the graph is not what it must be.
        ModelFileError: it would not be let in when it is opened.
    """
    import onnx

    from keraslm_onnx.graph import build_graph
    from keraslm_onnx.verify import check_structure, compare

    weights = read_weights(run.weights_path, run.config.model, run.tokenizer.vocab_size)
    config = run.config.model
    proto = _to_onnx(build_graph(config, run.tokenizer.vocab_size, weights))
    onnx.helper.set_model_props(proto, model_info(run).to_metadata())
    onnx.checker.check_model(proto, full_check=True)
    check_structure(proto, config.num_layers)
    data = sealed(proto.SerializeToString())
    check_model(data, "the converted graph")
    report = compare(run, data) | {"lstm_nodes": config.num_layers}
    output.write_bytes(data)
    return report


def model_info(run: Run) -> ModelInfo:
    """The metadata that a run's model file carries."""
    epochs = run.epochs()
    tokenizer, model = run.tokenizer, run.config.model
    return ModelInfo(
        keraslm_version=__version__,
        tokenizer=tokenizer.to_json(),
        tokenizer_sha256=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        unk_id=tokenizer.unk_id,
        bos_id=tokenizer.eos_id,
        eos_id=tokenizer.eos_id,
        num_layers=model.num_layers,
        hidden_size=model.units,
        embedding_dim=model.embedding_size,
        valid_perplexity=float(epochs[-1].get("val_perplexity", "nan")) if epochs else float("nan"),
        config=json.dumps(run.config.to_dict()),
        softmax=model.softmax,
    )


def _to_onnx(model: Any) -> Any:
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
    _order(proto.graph)
    _rename(proto.graph, dict(zip((o.name for o in proto.graph.output), contract.OUTPUTS, strict=True)))
    state = [*(d or contract.BATCH for d in model.inputs[1].shape)]
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


def _order(graph: Any) -> None:
    """Put the nodes of a graph in the order in which its outputs, one after the other, come to need them, in place.

    That order hangs on the connections alone. The names that tf2onnx gives to like nodes change from export to export.
    """
    source = {name: node for node in graph.node for name in node.output}
    ordered: dict[str, Any] = {}  # by the node's first output
    waiting = [source[value.name] for value in reversed(graph.output)]
    while waiting:
        node = waiting[-1]
        missing = [source[name] for name in node.input if name in source and source[name].output[0] not in ordered]
        if missing:
            waiting.extend(reversed(missing))
        else:
            ordered.setdefault(waiting.pop().output[0], node)
    nodes = [type(node).FromString(node.SerializeToString()) for node in ordered.values()]
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give every node and tensor a name by its place, and order the weights by their first use.

    tf2onnx numbers constants by the order of a set, so that two exports of one run would differ.

    Args:
        graph: an `onnx.GraphProto`, changed in place; its inputs keep their names.
        names: new names of its outputs.
    """
    tensors = {tensor.name for tensor in graph.initializer}
    used = list(dict.fromkeys(name for node in graph.node for name in node.input if name in tensors))
    graph.initializer.sort(key=lambda tensor: used.index(tensor.name))
    names = names | {name: f"weight_{number}" for number, name in enumerate(used)}
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for place, name in enumerate(node.output):
            if name:
                names.setdefault(name, f"{node.name}:{place}")
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.initializer, *graph.output):
        value.name = names[value.name]


def _main(run: str, output: str) -> None:
    from keraslm.backend import select_backend

    try:
        select_backend("tensorflow")
        answer = convert(Run.open(run), Path(output))
    except KeraslmError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main(*sys.argv[1:])
