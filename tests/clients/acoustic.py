"""Speech models without speech: a transducer for sherpa-onnx whose frames have given scores, whatever it hears.

    encoder(anything) = frames, (1, F, V)      decoder(last token) = 0, (N, V)      joiner = encoder + decoder

So the scores of a frame are those of its row in `frames`, each frame emits at most one token (id 0, the blank, is
none), and only a language model can make a hypothesis better or worse than the frames say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

_FEATURES = 80
CHUNK = 4  # feature frames per call of the streaming encoder


def write(folder: Path, frames: np.ndarray, chunks: int = 0) -> None:
    """Write `encoder.onnx`, `decoder.onnx` and `joiner.onnx`.

    Args:
        frames: scores of the tokens at each frame, float32 `(F, V)`.
        chunks: calls of a streaming encoder over which the frames are spread; 0: an encoder that is called once.
    """
    folder.mkdir(exist_ok=True)
    frames = frames.astype(np.float32)
    vocab_size = frames.shape[-1]
    _save(folder / "encoder.onnx", *(_streaming(frames, chunks) if chunks else _at_once(frames)))
    constants = {"zeros": np.zeros((vocab_size, vocab_size), np.float32), "axis": np.array([1])}
    nodes = [helper.make_node("Gather", ["zeros", "y"], ["rows"]), helper.make_node("Squeeze", ["rows", "axis"], ["d"])]
    metadata = {"vocab_size": vocab_size, "context_size": 1}
    values = [_value("y", ["N", 1], TensorProto.INT64)], [_value("d", ["N", vocab_size])]
    _save(folder / "decoder.onnx", nodes, constants, *values, metadata)
    values = [_value("e", ["N", vocab_size]), _value("d", ["N", vocab_size])], [_value("logit", ["N", vocab_size])]
    _save(folder / "joiner.onnx", [helper.make_node("Add", ["e", "d"], ["logit"])], {}, *values, {"joiner_dim": 1})


def _at_once(frames: np.ndarray) -> tuple[Any, ...]:
    constants = {"frames": frames[None], "count": np.array([len(frames)], np.int64)}
    nodes = [helper.make_node("Identity", [name], [f"out_{name}"]) for name in constants]
    inputs = [_value("x", ["N", "T", _FEATURES]), _value("x_lens", ["N"], TensorProto.INT64)]
    outputs = [_value("out_frames", [1, *frames.shape]), _value("out_count", [1], TensorProto.INT64)]
    return nodes, constants, inputs, outputs, {"model_type": "zipformer2"}


def _streaming(frames: np.ndarray, chunks: int) -> tuple[Any, ...]:
    """The state counts the calls; each returns the next of `chunks` equal parts of the frames."""
    parts = np.stack(np.split(frames, chunks))
    constants = {"parts": parts, "one": np.ones((1, 1, 1), np.float32), "shape": np.array([1])}
    nodes = [
        helper.make_node("Reshape", ["h", "shape"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["number"], to=TensorProto.INT64),
        helper.make_node("Gather", ["parts", "number"], ["encoder_out"]),
        helper.make_node("Add", ["h", "one"], ["next_h"]),
        helper.make_node("Identity", ["c"], ["next_c"]),
    ]
    state = [1, 1, 1]
    inputs = [_value("x", [1, CHUNK, _FEATURES]), _value("h", state), _value("c", state)]
    outputs = [_value("encoder_out", [1, *parts.shape[1:]]), _value("next_h", state), _value("next_c", state)]
    sizes = {"num_encoder_layers": 1, "T": CHUNK, "decode_chunk_len": CHUNK, "rnn_hidden_size": 1, "d_model": 1}
    return nodes, constants, inputs, outputs, {"model_type": "lstm", **sizes}


def _value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _save(path: Path, nodes: Any, constants: dict[str, Any], inputs: Any, outputs: Any, metadata: Any) -> None:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(proto, {key: str(value) for key, value in metadata.items()})
    path.write_bytes(proto.SerializeToString())
