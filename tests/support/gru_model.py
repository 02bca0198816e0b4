"""Model files of GRU or RNN layers, made in a moment, without Keras and tf2onnx: random weights, real nodes.

The layers are those of `keraslm_export.recurrent`; embedding and softmax are written by hand. Answers are those of
`tests.reference.language_model`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from keraslm.config import Config
from keraslm.scoring import contract
from keraslm_export.recurrent import ABOVE, add_layers
from keraslm_export.simplify import tidy
from tests.support import fake_model
from tests.support.made_run import random_weights

V = fake_model.V


def config_of(**fields) -> Config:
    return Config().replace(**{"cell": "gru", "layer_units": (4, 3), "embedding_dim": 5} | fields)


def build(config: Config) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model with the vocabulary of `fake_model`, and its weights; the softmax is full or a mixture."""
    model = config.model
    weights = random_weights(model, V)
    if model.tie_weights:
        weights["logits/kernel"] = weights["embedding/embeddings"].T
    constants = {"table": weights["embedding/embeddings"], "one": np.array([1]), "two": np.array([2])}
    constants |= {"zero": np.array([0]), "far": np.array([1 << 40])}
    constants |= {name: value for name, value in weights.items() if name.startswith("logits/")}
    nodes = [
        helper.make_node("Transpose", [contract.INPUT_IDS], ["steps"], perm=[1, 0]),
        helper.make_node("Gather", ["table", "steps"], ["below"], axis=0),
        helper.make_node("Transpose", [ABOVE], ["hidden"], perm=[1, 0, 2]),
        *(_mixture(model, constants) if model.softmax == "mixture" else _softmax("hidden", "all")),
        helper.make_node("Shape", [contract.TARGETS], ["shape"]),
        helper.make_node("Slice", ["shape", "one", "two"], ["known"]),
        helper.make_node("Slice", ["all", "known", "far", "one"], ["distributions"]),
        helper.make_node("Unsqueeze", [contract.TARGETS, "two"], ["column"]),
        helper.make_node("GatherElements", ["all", "column"], ["found"], axis=2),
        helper.make_node("Squeeze", ["found", "two"], ["of_targets"]),
    ]
    state = [len(model.sizes), contract.BATCH, max(model.sizes)]
    axes = [contract.BATCH, contract.TIME], [contract.BATCH, contract.KNOWN]
    inputs = [_value(contract.INPUT_IDS, axes[0], 7), _value(contract.TARGETS, axes[1], 7), _value(ABOVE, None)]
    outputs = [_value("distributions", None), _value("of_targets", None), _value("below", None)]
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "gru", inputs, outputs, tensors)
    add_layers(graph, model, weights)
    tidy(graph)
    shapes = dict.fromkeys((contract.H0, contract.C0, contract.NEXT_H0, contract.NEXT_C0), state)
    shapes |= {contract.LOG_PROBS: [contract.BATCH, contract.UNKNOWN, V], contract.TARGET_LOG_PROBS: axes[1]}
    for value in (*graph.input, *graph.output):
        if value.name in shapes:
            value.CopyFrom(_value(value.name, shapes[value.name]))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", contract.OPSET)], ir_version=8)
    helper.set_model_props(proto, _info(config).to_metadata())
    onnx.checker.check_model(proto, full_check=True)
    return proto, weights


def write(path: Path, **fields) -> Path:
    return fake_model.save(path, build(config_of(**fields))[0])


def _info(config: Config) -> contract.ModelInfo:
    model = config.model
    return fake_model.model_info(
        num_layers=len(model.sizes),
        hidden_size=max(model.sizes),
        embedding_dim=model.embedding_size,
        softmax=model.softmax,
        config=json.dumps(config.to_dict()),
    )


def _value(name: str, shape: list | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _softmax(hidden: str, name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", [hidden, "logits/kernel"], [f"{name}_product"]),
        helper.make_node("Add", [f"{name}_product", "logits/bias"], [f"{name}_logits"]),
        helper.make_node("LogSoftmax", [f"{name}_logits"], [name]),
    ]


def _mixture(model, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    experts, size = model.num_experts, model.embedding_size
    nodes = [
        helper.make_node("MatMul", ["hidden", "logits/prior_kernel"], ["scores"]),
        helper.make_node("LogSoftmax", ["scores"], ["log_priors"]),
        helper.make_node("MatMul", ["hidden", "logits/latent_kernel"], ["products"]),
        helper.make_node("Add", ["products", "logits/latent_bias"], ["sums"]),
        helper.make_node("Tanh", ["sums"], ["latents"]),
    ]
    for k in range(experts):
        for what, width in (("prior", 1), ("latent", size)):
            ends = {f"{what}_from_{k}": np.array([k * width]), f"{what}_to_{k}": np.array([(k + 1) * width])}
            constants |= ends
            whole = {"prior": "log_priors", "latent": "latents"}[what]
            nodes.append(helper.make_node("Slice", [whole, *ends, "two"], [f"{what}_{k}"]))
        nodes += _softmax(f"latent_{k}", f"expert_{k}")
        nodes.append(helper.make_node("Add", [f"expert_{k}", f"prior_{k}"], [f"log_{k}"]))
        nodes.append(helper.make_node("Exp", [f"log_{k}"], [f"part_{k}"]))
    total = [f"part_{k}" for k in range(experts)]
    return [*nodes, helper.make_node("Sum", total, ["total"]), helper.make_node("Log", ["total"], ["all"])]
