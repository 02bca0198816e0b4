"""Model files written by hand, without Keras, whose answers are formulas.

The network is one table with a row of log-probabilities for each of V states. The state after a token is

    s = (s + id + 1) mod V, 0 at the start of a text,

so that a distribution depends on every token since the start: a token that is lost, repeated or from a different text
changes all distributions after it. `h0` carries s, and `c0` counts the tokens. If all rows of the table are equal, the
distribution is always the same. The hidden state is s / V; files of format versions 3 and 4 do not return it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from keraslm.config import Config
from keraslm.scoring import contract
from keraslm.scoring.contract import ModelInfo, Vocabulary
from keraslm.scoring.seal import sealed
from keraslm.text.tokenizer import Tokenizer
from tests.support.words import train_words

# Ids by (-count, word): <eos> 0, sat 1, the 2, cat 3, dog 4, <unk> 5.
TOKENIZER = train_words(["the cat sat", "the dog sat"])
V = TOKENIZER.vocab_size

BY_ID = np.log(np.tile(np.arange(1, V + 1) / 21, (V, 1)))  # token i has probability (i + 1) / 21, always
BY_HISTORY = np.log(np.random.default_rng(7).dirichlet(np.ones(V), V))


def model_info(**changes) -> ModelInfo:
    """Metadata that fit the graph of `build`, with some values changed."""
    fitting = {
        **vars(Vocabulary.of(TOKENIZER)),
        "keraslm_version": "0.0.0",
        "num_layers": 1,
        "hidden_size": 1,
        "embedding_dim": 1,
        "config": json.dumps(Config().replace(num_layers=1, units=1).to_dict()),
    }
    return ModelInfo(**(fitting | changes))


def info_of(tokenizer: Tokenizer) -> ModelInfo:
    """Metadata that fit a graph with a different tokenizer."""
    return model_info(**vars(Vocabulary.of(tokenizer)))


def build(table: np.ndarray = BY_ID, info: ModelInfo | None = None) -> onnx.ModelProto:
    """A model that obeys the contract and answers from a table of shape `(V, V)`."""
    size = len(table)
    constants = {
        "table": table.astype(np.float32),
        "size": np.array(size, np.float32),
        "one": np.array(1, np.float32),
        "time_axis": np.array(1, np.int64),
        "first": np.array(0, np.int64),
        "last": np.array(-1, np.int64),
        "outer_axes": np.array([0, 2], np.int64),
        "zero_axis": np.array([0], np.int64),
        "one_axis": np.array([1], np.int64),
        "two_axis": np.array([2], np.int64),
        "far": np.array([np.iinfo(np.int32).max], np.int64),
        "unused": np.zeros(64, np.float32),  # as long as the hidden sizes of real models, which a session reckons with
    }
    nodes = [
        helper.make_node("Cast", [contract.INPUT_IDS], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["ids", "one"], ["steps"]),
        helper.make_node("CumSum", ["steps", "time_axis"], ["sums"]),
        helper.make_node("Gather", [contract.H0, "first"], ["start"], axis=0),  # [N, 1]
        helper.make_node("Add", ["sums", "start"], ["totals"]),  # [N, T]
        helper.make_node("Mod", ["totals", "size"], ["states"], fmod=1),
        helper.make_node("Cast", ["states"], ["rows"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "rows"], ["distributions"], axis=0),  # [N, T, V]
        helper.make_node("Shape", [contract.TARGETS], ["targets_shape"]),
        helper.make_node("Slice", ["targets_shape", "one_axis", "two_axis"], ["known"]),  # [K], as a vector of one
        helper.make_node("Slice", ["distributions", "known", "far", "one_axis"], [contract.LOG_PROBS]),
        helper.make_node("Slice", ["rows", "zero_axis", "known", "one_axis"], ["known_rows"]),
        helper.make_node("Unsqueeze", ["known_rows", "two_axis"], ["row_index"]),
        helper.make_node("Unsqueeze", [contract.TARGETS, "two_axis"], ["target_index"]),
        helper.make_node("Concat", ["row_index", "target_index"], ["index"], axis=2),  # [N, K, 2]
        helper.make_node("GatherND", ["table", "index"], [contract.TARGET_LOG_PROBS]),
        helper.make_node("Gather", ["states", "last"], ["end"], axis=1),  # [N]
        helper.make_node("Unsqueeze", ["end", "outer_axes"], [contract.NEXT_H0]),
        helper.make_node("Shape", [contract.INPUT_IDS], ["shape"]),
        helper.make_node("Slice", ["shape", "one_axis", "two_axis"], ["length"]),
        helper.make_node("Cast", ["length"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Add", [contract.C0, "count"], [contract.NEXT_C0]),
        helper.make_node("Div", ["states", "size"], ["shares"]),
        helper.make_node("Unsqueeze", ["shares", "two_axis"], [contract.HIDDEN]),
    ]
    state, known = [1, contract.BATCH, 1], [contract.BATCH, contract.KNOWN]
    inputs = [
        helper.make_tensor_value_info(contract.INPUT_IDS, TensorProto.INT64, [contract.BATCH, contract.TIME]),
        helper.make_tensor_value_info(contract.H0, TensorProto.FLOAT, state),
        helper.make_tensor_value_info(contract.C0, TensorProto.FLOAT, state),
        helper.make_tensor_value_info(contract.TARGETS, TensorProto.INT64, known),
    ]
    outputs = [
        helper.make_tensor_value_info(contract.LOG_PROBS, TensorProto.FLOAT, [contract.BATCH, contract.UNKNOWN, size]),
        helper.make_tensor_value_info(contract.NEXT_H0, TensorProto.FLOAT, state),
        helper.make_tensor_value_info(contract.NEXT_C0, TensorProto.FLOAT, state),
        helper.make_tensor_value_info(contract.TARGET_LOG_PROBS, TensorProto.FLOAT, known),
        helper.make_tensor_value_info(contract.HIDDEN, TensorProto.FLOAT, [contract.BATCH, contract.TIME, 1]),
    ]
    info = info or model_info()
    if not info.has_hidden:
        del nodes[-2:], outputs[-1]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "fake", inputs, outputs, initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", contract.OPSET)], ir_version=8)
    helper.set_model_props(proto, info.to_metadata())
    onnx.checker.check_model(proto, full_check=True)
    return proto


def save(path: Path, proto: onnx.ModelProto) -> Path:
    """Write a model as an export does: with a seal."""
    path.write_bytes(sealed(proto.SerializeToString()))
    return path


def write(path: Path, table: np.ndarray = BY_ID, info: ModelInfo | None = None) -> Path:
    """A model file that answers from a table."""
    return save(path, build(table, info))


def expected(table: np.ndarray, texts: list[list[int]]) -> list[np.ndarray]:
    """Log-probability of each token of each text, each from the start state, by the formula above."""
    found = []
    for ids in texts:
        inputs = np.array([TOKENIZER.eos_id, *ids[:-1]])
        states = np.cumsum(inputs + 1) % len(table)
        found.append(table[states, ids])
    return found


def ids_of(line: str) -> list[int]:
    """Ids of a line with `<eos>` at the end: split at spaces, with `<unk>` for unknown words."""
    known = {"<eos>": 0, "sat": 1, "the": 2, "cat": 3, "dog": 4}
    return [*(known.get(word, 5) for word in line.split()), 0]
