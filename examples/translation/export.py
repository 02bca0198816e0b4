"""A trained network as two ONNX graphs: one node per LSTM layer, no control flow, verified against Keras.

    encoder.onnx    source int64 (N, S), lengths int32 (N,) -> memory_*, state_*
    step.onnx       token int64 (N,), memory_*, state_* -> log_probs (N, V), next_state_*, alignment (N, S)

Memory and state are those of `Network.encoder` and `Network.step`, numbered from 0 in their order. Without attention,
there is neither a memory nor an alignment.

Shapes: `N` sentences, `S` source tokens, `H` units, `V` target vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from examples.translation.config import TranslationConfig, TranslationModel
from examples.translation.data import Vocabularies
from examples.translation.model import Network
from keraslm.errors import ExportError
from keraslm.layers.attention import CLOSED
from keraslm.runs.weights import Weights
from keraslm.scoring.seal import sealed
from keraslm.system import VERSION
from keraslm.system.outputs import write_together
from keraslm.text.tokenizer import NO_ID, Tokenizer
from keraslm_export.graph import TABLE, Writer, assemble

Arrays = list[Any]
Call = Callable[..., Arrays]

TOLERANCE = 1e-4  # float32 differences of these graphs are near 1e-6
SHAPES = ((1, 2), (1, 23), (6, 12))  # sentences x tokens of the longest
STEPS = 4  # of the decoder, for each shape


def export(network: Network, config: TranslationConfig, vocabularies: Vocabularies, folder: Path) -> float:
    """Write encoder.onnx and step.onnx. Files in the folder are replaced only if the verification passes.

    The metadata of encoder.onnx holds what a client needs, and the SHA-256 of step.onnx: if the second of the two
    renames does not happen, translate.py finds files of two exports and refuses them.

    Returns:
        The largest difference between the graphs and the Keras models.

    Raises:
        ExportError: a weight is not finite, or a difference is above `TOLERANCE`.
        WriteError: a file cannot be written.
    """
    weights = {variable.path: keras.ops.convert_to_numpy(variable) for variable in network.training.trainable_variables}
    for name, value in weights.items():
        if not np.isfinite(value).all():  # onnxruntime could return plausible numbers
            raise ExportError(f"The weights {name} are not finite. Nothing was published.")
    sizes = vocabularies.source.vocab_size, vocabularies.target.vocab_size
    step = _file(step_graph(config.model, weights, sizes[1]), {"keraslm_version": VERSION})
    pair = {"step_sha256": hashlib.sha256(step).hexdigest()}
    encoder = _file(encoder_graph(config.model, weights), metadata(config, vocabularies) | pair)
    difference = verify(network, encoder, step, *sizes)
    write_together(folder, {"step.onnx": step, "encoder.onnx": encoder})
    return difference


def metadata(config: TranslationConfig, vocabularies: Vocabularies) -> dict[str, str]:
    """What a client needs; the token of an unknown word is empty if the vocabulary has none."""
    found = {"attention": config.model.attention, "keraslm_version": VERSION, "eos_id": str(vocabularies.target.eos_id)}
    for name in ("source", "target"):
        tokenizer: Tokenizer = getattr(vocabularies, name)
        unknown = tokenizer.tokens([tokenizer.unk_id])[0] if tokenizer.unk_id != NO_ID else ""
        found |= {f"{name}_tokenizer": tokenizer.to_json(), f"{name}_unk": unknown}
    numbers = {"reverse_source": config.data.reverse_source, "max_length": config.data.max_length}
    return found | {name: json.dumps(value) for name, value in numbers.items()}


def encoder_graph(config: TranslationModel, weights: Weights) -> ModelProto:
    """The graph of `Network.encoder`. An LSTM node ends at the length of each sentence, or starts there."""
    graph, attention = Writer(), config.attention != "none"
    x = graph.lookup(weights["source_embedding/embeddings"], graph.add("Transpose", "source", perm=[1, 0]))
    for number in range(config.num_layers):
        names = [f"encoder_{number}_{name}" for name in ("forward", "backward")[: 1 + config.bidirectional]]
        x, *last = graph.lstm(x, [_cell(weights, f"{name}/{{}}") for name in names], "lengths")
        x = graph.add("Reshape", graph.add("Transpose", x, perm=[0, 2, 1, 3]), [0, 0, -1])  # (S, N, H)
        for place, part in enumerate(last, 2 * number + attention):
            graph.add("Reshape", graph.add("Transpose", part, perm=[1, 0, 2]), [0, -1], output=f"state_{place}")
    if attention:
        memory = graph.add("Transpose", x, perm=[1, 0, 2], output="memory_1")
        graph.add("MatMul", memory, weights["keys/kernel"], output="memory_0")
        steps = graph.add("Gather", graph.add("Shape", "source"), np.int64(1))
        lengths = graph.add("Cast", graph.add("Unsqueeze", "lengths", [1]), to=TensorProto.INT64)
        padding = graph.add("GreaterOrEqual", graph.add("Range", np.int64(0), steps, np.int64(1)), lengths)
        graph.add("Where", padding, np.float32(CLOSED), np.float32(0), output="memory_2")
        graph.add("ConstantOfShape", graph.add("Shape", "state_1"), output="state_0")
    inputs = [_value("source", "N", "S", kind=TensorProto.INT64), _value("lengths", "N", kind=TensorProto.INT32)]
    return assemble(graph, inputs, [*_memory(config), *_state(config)])


def step_graph(config: TranslationModel, weights: Weights, vocab_size: int) -> ModelProto:
    """The graph of `Network.step`. An LSTM node with one step is as fast as the products and sums in it."""
    graph, attention = Writer(), config.attention != "none"
    x = graph.lookup(weights["target_embedding/embeddings"], "token")
    x = graph.add("Concat", x, "state_0", axis=1) if attention else x
    for number in range(config.num_layers):
        cell = _cell(weights, f"decoder/{{}}_{number}" if attention else f"decoder_{number}/{{}}")
        places = 2 * number + attention, 2 * number + attention + 1
        x, *before = (graph.add("Unsqueeze", name, [0]) for name in (x, *(f"state_{place}" for place in places)))
        _, *last = graph.lstm(x, [cell], "", *before)
        ends = [graph.add("Squeeze", part, [0], output=f"next_state_{n}") for part, n in zip(last, places, strict=True)]
        x = ends[0]
    if attention:
        x = attend(graph, config.attention, weights, x)
    kernel = TABLE if config.tie_weights else weights["logits/kernel"]
    logits = graph.add("Gemm", x, kernel, weights["logits/bias"], transB=int(config.tie_weights))
    graph.add("LogSoftmax", logits, axis=1, output="log_probs")
    inputs = [_value("token", "N", kind=TensorProto.INT64), *_memory(config), *_state(config)]
    outputs = [_value("log_probs", "N", vocab_size), *_state(config, "next_")]
    return assemble(graph, inputs, [*outputs, *([_value("alignment", "N", "S")] if attention else [])])


def attend(graph: Writer, attention: str, weights: Weights, h: str) -> str:
    """Add the attention of `AttentionDecoder`; returns the name of the attentional vector, `(N, H)`."""
    if attention == "bahdanau":
        query = graph.add("Unsqueeze", graph.add("MatMul", h, weights["decoder/query"]), [1])
        energies = graph.add("Tanh", graph.add("Add", query, "memory_0"))  # (N, S, H)
        energy = weights["decoder/energy"][:, None]  # onnxruntime is ten times as slow with a vector
        scores = graph.add("Squeeze", graph.add("MatMul", energies, energy), [2])
    else:
        scores = graph.add("Squeeze", graph.add("MatMul", "memory_0", graph.add("Unsqueeze", h, [2])), [2])
    if attention == "scaled_luong":
        scores = graph.add("Mul", scores, weights["decoder/scale"])
    alignment = graph.add("Softmax", graph.add("Add", scores, "memory_2"), axis=1, output="alignment")
    context = graph.add("MatMul", graph.add("Unsqueeze", alignment, [1]), "memory_1")  # (N, 1, H)
    both = graph.add("Concat", graph.add("Squeeze", context, [1]), h, axis=1)
    return graph.add("Tanh", graph.add("MatMul", both, weights["decoder/combine"]), output="next_state_0")


def _cell(weights: Weights, path: str) -> Arrays:
    return [weights[path.format(part)] for part in ("kernel", "recurrent_kernel", "bias")]


def _value(name: str, *shape: str | int, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _memory(config: TranslationModel) -> list[ValueInfoProto]:
    shapes = (("N", "S", config.units), ("N", "S", config.units), ("N", "S")) if config.attention != "none" else ()
    return [_value(f"memory_{number}", *shape) for number, shape in enumerate(shapes)]


def _state(config: TranslationModel, prefix: str = "") -> list[ValueInfoProto]:
    count = 2 * config.num_layers + (config.attention != "none")
    return [_value(f"{prefix}state_{number}", "N", config.units) for number in range(count)]


def _file(proto: ModelProto, texts: dict[str, str]) -> bytes:
    helper.set_model_props(proto, texts)
    onnx.checker.check_model(proto, full_check=True)
    return sealed(proto.SerializeToString())


def verify(network: Network, encoder: bytes, step: bytes, source_size: int, target_size: int) -> float:
    """Compare both files with the Keras models on random sentences; returns the largest difference.

    The padding holds random tokens. An `ExportError` if a difference is above `TOLERANCE` or not a number.
    """
    sessions = [onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]) for data in (encoder, step)]
    first, later = ([x.name for x in session.get_outputs()] for session in sessions)
    rng, differences = np.random.default_rng(0), []
    for rows, longest in SHAPES:
        lengths = np.append(longest, rng.integers(1, longest, rows - 1, endpoint=True)).astype(np.int32)
        source = rng.integers(0, source_size, (rows, longest))
        tokens = rng.integers(0, target_size, (STEPS, rows))
        models = [_of_keras(model) for model in (network.encoder, network.step)], list(map(_of_onnx, sessions))
        expected, found = (_results(encode, predict, first, source, lengths, tokens) for encode, predict in models)
        differences.append([np.abs(a - b).max() for a, b in zip(expected, found, strict=True)])
    largest = np.max(differences, axis=0)
    worst = int(np.argmax(largest))  # the first NaN, if there is one
    if not largest[worst] <= TOLERANCE:
        raise ExportError(
            f"The graphs differ from Keras: the largest difference is {largest[worst]:.3g}, in "
            f"{(first + STEPS * later)[worst]}; at most {TOLERANCE:g} is allowed. Nothing was published."
        )
    return float(largest[worst])


def _results(encode: Call, step: Call, names: list[str], source: Any, lengths: Any, tokens: Any) -> Arrays:
    """The results of the encoder, which have names, and of the steps, each of which starts from the previous state."""
    found = encode(source, lengths)
    size = sum(name.startswith("memory") for name in names)
    memory, state = found[:size], found[size:]
    for token in tokens:
        after = step(token, *memory, *state)
        state = after[1 : 1 + len(state)]
        found = found + after
    return found


def _of_keras(model: keras.Model) -> Call:
    return lambda *inputs: list(model.predict_on_batch(list(inputs)))  # compiled once for each shape


def _of_onnx(session: Any) -> Call:
    names = [x.name for x in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))
