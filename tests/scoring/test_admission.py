"""Which models are let in: our exports, whatever the softmax, plain or int8, and nothing that they have not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from keraslm.errors import ModelFileError
from keraslm.scoring import contract, opening
from keraslm.scoring.admission import OPERATORS
from keraslm.scoring.opening import check_model, read_model
from keraslm.scoring.seal import KEY, sealed
from keraslm.scoring.session import ModelSession
from keraslm.scoring.shapes import RULES
from tests.scoring.test_sniff import other_model
from tests.support import fake_model
from tests.torture.model_files import damaged, outcome


@pytest.fixture
def model(tiny_model) -> onnx.ModelProto:
    return onnx.load(tiny_model)


def refused(proto: onnx.ModelProto, found: str) -> None:
    (seal,) = [entry for entry in proto.metadata_props if entry.key == KEY]
    proto.metadata_props.remove(seal)
    with pytest.raises(ModelFileError, match=rf"^m: not one of keraslm's exports, so it is not run: .*{found}"):
        check_model(sealed(proto.SerializeToString()), "m")


def node(proto: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(node for node in proto.graph.node if node.op_type == kind)


def weight(proto: onnx.ModelProto) -> onnx.TensorProto:
    return max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))


def in_front(proto: onnx.ModelProto, *nodes: onnx.NodeProto, **tensors) -> None:
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in tensors.items())
    for new in reversed(nodes):
        proto.graph.node.insert(0, new)


def test_an_export_is_let_in_and_answers(tiny_model):
    data, _ = read_model(tiny_model)
    assert data == tiny_model.read_bytes()


def test_the_int8_version_of_an_export_is_let_in_and_answers(tiny_model, tiny_int8):
    session = ModelSession(tiny_int8)
    found, _ = session.run([[0, 1]], session.zero_state(1))
    plain = ModelSession(tiny_model)
    np.testing.assert_allclose(found, plain.run([[0, 1]], plain.zero_state(1))[0], atol=0.1)
    assert {n.op_type for n in onnx.load(tiny_int8).graph.node} >= {"DynamicQuantizeLSTM", "MatMulIntegerToFloat"}


@pytest.mark.parametrize("seal", [sealed, bytes])
def test_another_model_is_refused_before_a_session_is_made(tmp_path, monkeypatch, seal):
    made = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *args, **kwargs: made.append(args))
    path = tmp_path / "other.onnx"
    path.write_bytes(seal(other_model()))
    with pytest.raises(ModelFileError, match="not one of keraslm's"):
        ModelSession(path)
    assert not made


def test_every_operator_of_the_list_has_a_rule_of_shapes():
    assert {name for _, name in OPERATORS} == RULES.keys()


@pytest.mark.parametrize(
    "kind",
    ["Loop", "If", "Scan", "Dropout", "Tile", "Gemm", "Resize", "RandomNormal", "Einsum", "SequenceEmpty", "lstm", ""],
)
def test_another_operator_is_refused(model, kind):
    node(model, "LogSoftmax").op_type = kind
    refused(model, f"operator {kind}")


def test_an_operator_of_another_domain_is_refused(model):
    model.opset_import.add(domain="com.example", version=1)
    refused(model, "operator set 1 of domain 'com.example'")


def test_an_operator_of_a_domain_that_is_not_imported_is_refused(model):
    node(model, "LogSoftmax").domain = "com.microsoft"
    refused(model, r"operator com\.microsoft\.LogSoftmax of a domain that is not imported")


@pytest.mark.parametrize("version", [0, 16, 18, -1])
def test_another_operator_set_is_refused(model, version):
    next(used for used in model.opset_import if not used.domain).version = version
    refused(model, f"operator set {version} of domain 'ai.onnx'")


def test_another_ir_version_is_refused(model):
    model.ir_version = 13
    refused(model, "IR version 13, not 8")


def test_a_subgraph_is_refused(model):
    lstm = node(model, "LSTM")
    lstm.attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], [])))
    refused(model, "a subgraph")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda m: m.functions.add(name="f"), "functions"),
        (lambda m: m.training_info.add(), "training information"),
        (lambda m: m.graph.sparse_initializer.add(), "sparse tensors"),
        (lambda m: m.ClearField("graph"), "it has no graph"),
        (lambda m: m.metadata_props.add(key="vocab_size", value="9"), "metadata key 'vocab_size' is there twice"),
        (lambda m: m.opset_import.add(domain="", version=17), "operator set '' is there twice"),
        (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "initializer 'weight_0' is there twice"),
        (lambda m: m.graph.input.pop(), "inputs or outputs input_ids, h0, c0 instead of"),
        (lambda m: m.graph.output.reverse(), "inputs or outputs target_log_probs"),
    ],
    ids=lambda value: value.split()[-1] if isinstance(value, str) else "",
)
def test_what_no_export_has_is_refused(model, change, found):
    change(model)
    refused(model, found)


@pytest.mark.parametrize(
    ("kind", "name", "value", "found"),
    [
        ("LSTM", "clip", 3.0, "attribute 'clip' of LSTM"),
        ("LSTM", "direction", "reverse", "an LSTM that does not run forward"),
        ("LSTM", "activations", ["Relu", "Tanh", "Tanh"], "an LSTM with other activations"),
        ("LSTM", "hidden_size", "8", "attribute 'hidden_size' of LSTM, type 3"),
        ("LSTM", "hidden_size", 1 << 40, "an LSTM of 1099511627776 units"),
        ("Cast", "to", 8, "a Cast to data type 8"),
        ("Gather", "batch_dims", 1, "attribute 'batch_dims' of Gather"),
    ],
)
def test_an_attribute_that_no_export_has_is_refused(model, kind, name, value, found):
    changed = node(model, kind)
    kept = [a for a in changed.attribute if a.name != name]
    del changed.attribute[:]
    changed.attribute.extend([*kept, helper.make_attribute(name, value)])
    refused(model, found)


LOCATIONS = ["/etc/passwd", "../weights", "/dev/zero", "weights", "link", ""]


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("flag", [0, 1])
def test_external_data_are_refused(model, location, flag):
    tensor = weight(model)
    tensor.ClearField("raw_data")
    tensor.data_location = flag
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value=str(1 << 62))
    refused(model, f"initializer '{tensor.name}' is external data")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -2e9])
@pytest.mark.parametrize("place", [0, -1])
def test_a_weight_that_is_not_finite_is_refused(model, bad, place):
    tensor = weight(model)
    values = np.array(numpy_helper.to_array(tensor))
    values.reshape(-1)[place] = bad
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    refused(model, f"initializer '{tensor.name}' is not finite, or beyond 1e\\+09")


def test_a_scale_of_int8_weights_that_is_not_finite_is_refused(tiny_int8):
    proto = onnx.load(tiny_int8)
    (lstm,) = (node for node in proto.graph.node if node.op_type == "DynamicQuantizeLSTM")
    (scale,) = (tensor for tensor in proto.graph.initializer if tensor.name == lstm.input[8])
    scale.raw_data = np.float32(np.nan).tobytes() + scale.raw_data[4:]
    refused(proto, f"initializer '{scale.name}' is not finite")


@pytest.mark.parametrize(
    "kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.STRING, 99]
)
def test_another_data_type_is_refused(model, kind):
    weight(model).data_type = kind
    refused(model, f"is of data type {kind}")


@pytest.mark.parametrize(
    ("dims", "found"),
    [
        ([3], "bytes, not 12"),
        ([1 << 62, 1 << 62], "bytes, not"),
        ([0, 1 << 62], "has no value"),
        ([-1], r"has shape \[-1\]"),
        ([1] * 60000, "has shape"),
        ([], "bytes, not 4"),
    ],
    ids=["too few", "overflow", "none", "negative", "many axes", "scalar"],
)
def test_sizes_that_are_not_those_of_the_data_are_refused(model, dims, found):
    tensor = weight(model)
    del tensor.dims[:]
    tensor.dims.extend(dims)
    refused(model, found)


def test_two_kinds_of_values_are_refused(model):
    weight(model).float_data.append(1.0)
    refused(model, "has no value, or two kinds of them")


BOMBS = {
    "constant": ([helper.make_node("ConstantOfShape", ["n"], ["b"])], {"n": [10**11]}),
    "two factors": ([helper.make_node("ConstantOfShape", ["n"], ["b"])], {"n": [10**6, 10**6]}),
    "expand": ([helper.make_node("Expand", ["n", "n"], ["b"])], {"n": [10**11]}),
    "pad": ([helper.make_node("Pad", ["n", "w", "v"], ["b"])], {"n": [1], "w": [0, 10**11], "v": 0}),
    "range": ([helper.make_node("Range", ["z", "n", "o"], ["b"])], {"n": 10**11, "z": 0, "o": 1}),
    "of the inputs": (
        [
            helper.make_node("Shape", ["input_ids"], ["s"]),
            helper.make_node("Mul", ["s", "n"], ["m"]),
            helper.make_node("ConstantOfShape", ["m"], ["b"]),
        ],
        {"n": [10**5, 10**5]},
    ),
    "doubling": (
        [helper.make_node("Concat", [f"b{i}"] * 2, [f"b{i + 1}"], axis=0) for i in range(40)],
        {"b0": [1, 2]},
    ),
    "outer product": (
        [
            helper.make_node("Unsqueeze", ["n", "o"], ["column"]),
            helper.make_node("Add", ["n", "column"], ["b"]),
        ],
        {"n": list(range(20000)), "o": [1]},
    ),
    "power of the steps": (
        [
            helper.make_node("Unsqueeze", ["input_ids", "o"], ["a"]),
            helper.make_node("Unsqueeze", ["input_ids", "p"], ["c"]),
            helper.make_node("Unsqueeze", ["a", "p"], ["d"]),
            helper.make_node("Unsqueeze", ["a", "q"], ["e"]),
            helper.make_node("Add", ["a", "c"], ["f"]),
            helper.make_node("Unsqueeze", ["f", "q"], ["g"]),
            helper.make_node("Add", ["g", "d"], ["h"]),
        ],
        {"o": [1], "p": [2], "q": [3]},
    ),
}


@pytest.mark.parametrize(("nodes", "tensors"), BOMBS.values(), ids=BOMBS)
def test_a_graph_that_asks_for_more_memory_than_ours_is_refused(model, nodes, tensors):
    in_front(model, *nodes, **tensors)
    refused(model, "makes a value of shape")


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([helper.make_node("ConstantOfShape", ["input_ids"], ["b"])], "a shape cannot be told from the shapes"),
        (
            # 10^12 times what NonZero did not find: nothing at its largest, and a lot below.
            [
                helper.make_node("NonZero", ["input_ids"], ["places"]),
                helper.make_node("Shape", ["places"], ["found"]),
                helper.make_node("Sub", ["n", "found"], ["left"]),
                helper.make_node("ConstantOfShape", ["left"], ["b"]),
            ],
            "a shape cannot be told from the shapes",
        ),
        ([helper.make_node("Slice", ["input_ids", "input_ids", "n"], ["b"])], "where a Slice begins or ends cannot be"),
        ([helper.make_node("Add", ["nowhere", "n"], ["b"])], "Add reads 'nowhere', which nothing before it gives"),
        ([helper.make_node("Not", ["n"], ["input_ids"])], "the value 'input_ids' is given twice"),
        ([helper.make_node("Add", ["n", "n", "n"], ["b"])], "3 inputs"),
        ([helper.make_node("Not", [], ["b"])], "0 inputs"),
        ([helper.make_node("Not", ["n"], [])], "0 outputs"),
        ([helper.make_node("Add", ["n", "input_ids"], ["b"])], "sizes 2, 5 side by side"),
        ([helper.make_node("Pad", ["input_ids", "n", "n"], ["b"])], "a Pad of"),
        ([helper.make_node("GatherElements", ["input_ids", "n"], ["b"])], "GatherElements"),
        ([helper.make_node("QuantizeLinear", ["input_ids", "n", "n"], ["b"])], "sizes"),
    ],
    ids=[
        *("of values", "of what is not found", "slice", "unknown", "twice", "inputs", "no input", "no output"),
        *("misfit", "pad", "elements", "quantize"),
    ],
)
def test_a_graph_whose_sizes_cannot_be_told_is_refused(model, nodes, found):
    in_front(model, *nodes, n=[1, 2])
    refused(model, found)


def test_an_empty_batch_inside_a_graph_is_refused(model):
    # onnxruntime aborts the process on it.
    lstm = node(model, "LSTM")
    first = np.array([0])
    cut = helper.make_node("Slice", [lstm.input[0], "none", "none", "axis"], ["nothing"])
    model.graph.node.insert(list(model.graph.node).index(lstm), cut)
    model.graph.initializer.extend(numpy_helper.from_array(first, name) for name in ("none", "axis"))
    lstm.input[0] = "nothing"
    refused(model, "an LSTM of 8 units, 1 rows and 0 steps")


def test_a_giant_state_is_refused(model):
    for value in (*model.graph.input, *model.graph.output):
        if value.name in (contract.H0, contract.C0):
            value.type.tensor_type.shape.dim[2].dim_value = 1 << 40
    refused(model, "a state of shape")


def answers(tmp_path, proto, found):
    with pytest.raises(ModelFileError, match=found):
        ModelSession(fake_model.save(tmp_path / "model.onnx", proto))


def test_a_graph_that_does_not_answer_with_distributions_is_not_opened(tmp_path):
    answers(tmp_path, fake_model.build(np.log(np.full((6, 6), 0.5))), "the model's answers are not probabilities")


def test_a_graph_whose_targets_are_not_those_of_its_distributions_is_not_opened(tmp_path):
    proto = fake_model.build()
    proto.graph.initializer.append(numpy_helper.from_array(fake_model.BY_HISTORY.astype(np.float32), "other"))
    next(n for n in proto.graph.node if n.op_type == "GatherND").input[0] = "other"
    answers(tmp_path, proto, "log-probabilities of targets are not those of its distributions")


def test_what_is_not_a_file_is_not_read(tmp_path):
    for path in ("/dev/zero", "/dev/null"):
        with pytest.raises(ModelFileError, match=f"^{path}: not a regular file"):
            ModelSession(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch, tiny_model):
    monkeypatch.setattr(opening, "MAX_BYTES", 1000)
    with pytest.raises(ModelFileError, match=r"model\.onnx: [\d,]+ bytes; an ONNX file has at most 1,000"):
        ModelSession(tiny_model)


def test_damaged_files_are_refused_or_answer_with_distributions(tiny_model, tiny_int8, tmp_path):
    """The short version of tests/torture/model_files.py."""
    models = [path.read_bytes() for path in (tiny_model, tiny_int8, fake_model.write(tmp_path / "fake.onnx"))]
    path, outcomes = tmp_path / "damaged.onnx", set()
    for number in range(300):
        name, seal, data = damaged(models, 0, number)
        path.write_bytes(data)
        found, reason = outcome(path, seal)
        assert found == "refused" or (found == "answered" and seal), (number, name, seal, reason)
        outcomes.add(found)
    assert outcomes == {"refused", "answered"}
