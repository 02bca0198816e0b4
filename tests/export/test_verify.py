"""The verification before a model file is published finds wrong structure and wrong numbers."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import keraslm
from keraslm.errors import ExportError
from keraslm.runs.weights import read_weights
from keraslm.scoring import contract
from keraslm_export.verify import check_structure, compare
from tests.support.made_run import replace_weights


def model(parts, inputs=contract.INPUTS, outputs=contract.OUTPUTS, initializers=()) -> onnx.ModelProto:
    """A graph that computes nothing; only its structure is checked."""
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names] for names in (inputs, outputs)
    ]
    return helper.make_model(helper.make_graph(parts, "test", *values, list(initializers)))


def nodes(count: int, kind: str = "LSTM") -> list[onnx.NodeProto]:
    return [helper.make_node(kind, ["x", "w", "r"], [f"{kind}_{i}"]) for i in range(count)]


def weight(name: str, values) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def test_one_node_per_layer_is_accepted():
    check_structure(model(nodes(2), initializers=[weight("w", [1.0, -2.0])]), 2, "LSTM")
    check_structure(model(nodes(1, "GRU")), 1, "GRU")


@pytest.mark.parametrize(
    ("found", "has"),
    [
        ([], "none of them"),
        (nodes(1), "1 LSTM"),
        (nodes(3), "3 LSTM"),
        (nodes(2, "GRU"), "2 GRU"),
        ([*nodes(2), *nodes(1, "RNN")], "2 LSTM, 1 RNN"),
        *(([*nodes(2), *nodes(1, kind)], f"2 LSTM, 1 {kind}") for kind in ("Loop", "Scan", "If")),
    ],
)
def test_different_nodes_are_refused(found, has):
    expected = rf"must have 2 LSTM nodes, no other layers and no other loops, but has {has}\. Not published"
    with pytest.raises(ExportError, match=expected):
        check_structure(model(found), 2, "LSTM")


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (("ids", "h0", "c0", "targets"), contract.OUTPUTS),
        (("input_ids", "c0", "h0", "targets"), contract.OUTPUTS),
        (contract.INPUTS, ("Identity:0", "next_h0", "next_c0", "target_log_probs")),
        (contract.INPUTS, ("log_probs", "next_c0", "next_h0", "target_log_probs")),
        (contract.INPUTS[:1], contract.OUTPUTS),
    ],
)
def test_names_and_an_order_outside_the_contract_are_refused(inputs, outputs):
    with pytest.raises(ExportError, match="not those of the contract"):
        check_structure(model(nodes(1), inputs, outputs), 1, "LSTM")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(bad):
    weights = [weight("good", [0.5]), weight("lstm_0/kernel", [1.0, bad])]
    with pytest.raises(ExportError, match="The tensor lstm_0/kernel of the converted graph is not finite"):
        check_structure(model(nodes(1), initializers=weights), 1, "LSTM")


def test_the_exported_graph_passes(tiny_model, tiny_run):
    check_structure(onnx.load(tiny_model), tiny_run.config.model.num_layers, "LSTM")
    found = compare(tiny_run, tiny_model.read_bytes())
    assert found.cases == 4
    # Not 0: that would be a comparison of something with itself.
    assert 0.0 < found.largest_difference < 1e-4
    assert found.chunked_difference < 1e-4


@pytest.fixture
def other_run(tiny_run, tmp_path):
    """The tiny run with one weight changed by 0.5."""
    run = keraslm.load_run(shutil.copytree(tiny_run.path, tmp_path / "other"))
    weights = read_weights(run.weights_path, run.shapes())
    weights["logits/bias"][3] += 0.5
    replace_weights(run, weights)
    return run


def test_a_graph_with_different_weights_is_refused_with_the_largest_difference(tiny_model, other_run):
    with pytest.raises(ExportError, match=r"largest difference 0\.\d+ nats.*at most 0\.0001 is allowed.*Not published"):
        compare(other_run, tiny_model.read_bytes())


def test_a_graph_that_answers_nan_is_refused(tiny_model, tiny_run):
    proto = onnx.load(tiny_model)
    (kernel,) = [t for t in proto.graph.initializer if t.dims[-1:] == [tiny_run.tokenizer.vocab_size]]
    kernel.CopyFrom(weight(kernel.name, np.full(kernel.dims, np.nan)))
    with pytest.raises(ExportError, match="largest difference nan"):
        compare(tiny_run, proto.SerializeToString())


@pytest.mark.parametrize(
    ("output", "kind", "source"),
    [(contract.NEXT_H0, "Identity", contract.H0), (contract.TARGET_LOG_PROBS, "Neg", "right")],
    ids=["forgotten state", "wrong scores of targets"],
)
def test_a_graph_with_a_wrong_output_is_refused(tiny_model, tiny_run, output, kind, source):
    proto = onnx.load(tiny_model)
    for node in proto.graph.node:
        node.output[:] = ["right" if name == output else name for name in node.output]
    proto.graph.node.append(helper.make_node(kind, [source], [output]))
    with pytest.raises(ExportError, match="Not published"):
        compare(tiny_run, proto.SerializeToString())
