"""The verification before a model file is published: it must find what is wrong."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import keraslm
from keraslm.errors import ExportError
from keraslm.runs.weights import read_weights, write_weights
from keraslm.scoring import contract
from keraslm_export.verify import check_structure, compare


def model(nodes, inputs=contract.INPUTS, outputs=contract.OUTPUTS, initializers=()) -> onnx.ModelProto:
    """A graph that need not compute anything: the structure alone is looked at."""
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names] for names in (inputs, outputs)
    ]
    return helper.make_model(helper.make_graph(nodes, "test", *values, list(initializers)))


def lstm(count: int) -> list[onnx.NodeProto]:
    return [helper.make_node("LSTM", ["x", "w", "r"], [f"y{i}"], hidden_size=2) for i in range(count)]


def weight(name: str, values) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def test_one_lstm_node_a_layer_is_accepted():
    check_structure(model(lstm(2), initializers=[weight("w", [1.0, -2.0])]), 2)


@pytest.mark.parametrize(("found", "layers"), [(0, 1), (1, 2), (3, 2)])
def test_another_number_of_lstm_nodes_is_refused(found, layers):
    with pytest.raises(ExportError, match=rf"has {found} LSTM nodes .*must have {layers} LSTM nodes.* Not published"):
        check_structure(model(lstm(found)), layers)


@pytest.mark.parametrize(("cell", "kind"), [("gru", "GRU"), ("rnn", "RNN")])
def test_nodes_of_another_cell_are_refused(cell, kind):
    right = helper.make_node(kind, ["x", "w", "r"], ["z"], hidden_size=2)
    check_structure(model([right]), 1, cell)
    with pytest.raises(
        ExportError, match=rf"has 0 {kind} nodes and other layers \{{'LSTM': 1\}}.*must have 1 {kind} nodes"
    ):
        check_structure(model(lstm(1)), 1, cell)
    with pytest.raises(ExportError, match=rf"has 1 LSTM nodes and other layers \{{'{kind}': 1\}}"):
        check_structure(model([*lstm(1), right]), 1)


@pytest.mark.parametrize("kind", ["Loop", "Scan", "If"])
def test_control_flow_is_refused(kind):
    with pytest.raises(ExportError, match=rf"control flow \{{'{kind}': 1\}}.* Not published"):
        check_structure(model([*lstm(1), helper.make_node(kind, ["x"], ["z"])]), 1)


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
def test_names_or_an_order_that_are_not_the_contracts_are_refused(inputs, outputs):
    with pytest.raises(ExportError, match="not those of the contract"):
        check_structure(model(lstm(1), inputs, outputs), 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(bad):
    weights = [weight("good", [0.5]), weight("lstm_0/kernel", [1.0, bad])]
    with pytest.raises(ExportError, match="The tensor lstm_0/kernel of the converted graph is not finite"):
        check_structure(model(lstm(1), initializers=weights), 1)


def test_the_exported_graph_passes(tiny_model, tiny_run):
    check_structure(onnx.load(tiny_model), tiny_run.config.model.num_layers)


def test_the_exported_graph_answers_as_keras_on_this_backend_does(tiny_model, tiny_run):
    report = compare(tiny_run, tiny_model.read_bytes())
    assert report.keys() == {"cases", "largest_difference", "chunked_difference"}
    assert report["cases"] == 4
    # Not 0: that would be a comparison of something with itself.
    assert 0.0 < report["largest_difference"] < 1e-4
    assert report["chunked_difference"] < 1e-4


@pytest.fixture
def other_run(tiny_run, tmp_path):
    """The tiny run, with one number of one weight moved by 0.5."""
    run = keraslm.load_run(shutil.copytree(tiny_run.path, tmp_path / "other"))
    weights = read_weights(run.weights_path, run.config.model, run.tokenizer.vocab_size)
    weights["logits/bias"][3] += 0.5
    write_weights(run.weights_path, weights)
    return run


def test_a_graph_with_other_weights_is_refused_with_the_largest_difference(tiny_model, other_run):
    with pytest.raises(ExportError, match=r"largest difference 0\.\d+ nats.*at most 0\.0001 is allowed.*Not published"):
        compare(other_run, tiny_model.read_bytes())


def test_a_graph_that_answers_nan_is_refused(tiny_model, tiny_run):
    proto = onnx.load(tiny_model)
    (kernel,) = [t for t in proto.graph.initializer if t.dims[-1:] == [tiny_run.tokenizer.vocab_size]]
    kernel.CopyFrom(weight(kernel.name, np.full(kernel.dims, np.nan)))
    with pytest.raises(ExportError, match="largest difference nan"):
        compare(tiny_run, proto.SerializeToString())


def test_a_graph_that_forgets_its_state_is_refused(tiny_model, tiny_run):
    proto = onnx.load(tiny_model)
    for node in proto.graph.node:
        node.output[:] = ["forgotten" if name == contract.NEXT_H0 else name for name in node.output]
    proto.graph.node.append(helper.make_node("Identity", [contract.H0], [contract.NEXT_H0]))
    with pytest.raises(ExportError, match="Not published"):
        compare(tiny_run, proto.SerializeToString())
