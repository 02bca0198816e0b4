"""Model files are opened only if they are intact, complete and made by keraslm."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from keraslm.errors import ModelFileError, UsageError
from keraslm.scoring import opening
from keraslm.scoring.seal import KEY, SIZE, sealed
from keraslm.scoring.session import ModelSession
from tests.scoring.test_sniff import KNOWN, other_model
from tests.support import fake_model
from tests.support.words import train_words
from tests.torture.model_files import damage


@pytest.fixture(scope="module")
def plain() -> bytes:
    """A model without its seal."""
    return fake_model.build().SerializeToString()


@pytest.fixture
def opened(tmp_path):
    """Write bytes to a file and open it."""

    def check(data: bytes | onnx.ModelProto, *arguments) -> ModelSession:
        path = tmp_path / "model.onnx"
        path.write_bytes(sealed(data.SerializeToString()) if isinstance(data, onnx.ModelProto) else data)
        return ModelSession(path, *arguments)

    return check


@pytest.fixture
def refused(opened, tmp_path, monkeypatch):
    """Bytes that are refused before onnxruntime is called."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)

    def check(data: bytes, message: str) -> None:
        with pytest.raises(ModelFileError) as caught:
            opened(data)
        assert str(caught.value).startswith(f"{tmp_path / 'model.onnx'}: {message}")
        assert "keraslm export" in str(caught.value)

    return check


def test_the_seal_is_the_last_metadata_entry(plain):
    before, after = onnx.load_from_string(plain), onnx.load_from_string(sealed(plain))
    onnx.checker.check_model(after, full_check=True)
    assert after.graph == before.graph and list(after.metadata_props)[:-1] == list(before.metadata_props)
    # The value is that of `sha256sum` over the bytes before the entry.
    assert (after.metadata_props[-1].key, after.metadata_props[-1].value) == (KEY, hashlib.sha256(plain).hexdigest())
    assert len(sealed(plain)) - len(plain) == SIZE
    assert sealed(sealed(plain)) == sealed(plain) and sealed(plain + b"\x28\x01")[:-SIZE] == plain + b"\x28\x01"


def test_exports_open_with_their_digest(tiny_model, tiny_int8):
    for path in (tiny_model, tiny_int8):
        assert ModelSession(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("data", "name"), KNOWN.values(), ids=KNOWN)
def test_a_different_format_is_named(refused, data, name):
    refused(data, f"not an ONNX model; it looks like {name}. Make a model with: ")


@pytest.mark.parametrize("part", [1, 2, 3, 4, 8])
def test_an_incomplete_model_is_refused(refused, tiny_model, part):
    data = tiny_model.read_bytes()
    refused(
        data[: len(data) * part // 8 - 1], "an ONNX model, but not one" if part < 8 else "has no checksum at its end"
    )


def test_unsealed_files_are_distinguished(refused, plain):
    refused(b"\x08" + np.random.default_rng(0).bytes(5000), "not an ONNX model. ")
    refused(other_model(), "an ONNX model, but not one made by keraslm")
    refused(plain, "has no checksum at its end: it was cut short, or changed by a different program. ")
    assert b"format_version\x12\x015" in plain
    old = plain.replace(b"format_version\x12\x015", b"format_version\x12\x012")
    refused(old, "format version 2, but this keraslm reads 3, 4 and 5. Export the run again: ")


def test_any_changed_bit_is_found(refused, plain):
    data = sealed(plain)
    for place in range(0, len(data), 41):
        refused(bytes([*data[:place], data[place] ^ 1 << place % 8, *data[place + 1 :]]), "")
    refused(
        bytes([*data[:500], data[500] ^ 1, *data[501:]]), "damaged: its checksum does not match. Copy the file again"
    )


def test_any_damage_is_found(refused, plain):
    """The short version of tests/torture/model_files.py."""
    for number in range(200):
        refused(damage(sealed(plain), seed=0, number=number)[1], "")


def test_sealed_models_of_other_programs_and_formats_are_refused(opened):
    with pytest.raises(ModelFileError, match="an ONNX model, but not one made by keraslm"):
        opened(sealed(other_model()))
    proto = fake_model.build()
    next(entry for entry in proto.metadata_props if entry.key == "format_version").value = "2"
    with pytest.raises(ModelFileError, match="format version 2, but this keraslm reads 3, 4 and 5"):
        opened(proto)
    with pytest.raises(ModelFileError, match="not a model that onnxruntime can open"):
        opened(sealed(b"\x08\x08\x3a\x7f"))


PLACES = ["initializer", "constant", "subgraph", "sparse", "function"]


def with_external_data(location: str, place: str = "initializer") -> onnx.ModelProto:
    """A model that needs 40 x 40 numbers from a different file."""
    tensor = numpy_helper.from_array(np.zeros((40, 40), np.float32), "w")
    if place == "sparse":
        tensor = numpy_helper.from_array(np.zeros(40, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    proto = fake_model.build()
    constant, node = (
        helper.make_node("Constant", [], ["w"], value=tensor),
        helper.make_node("MatMul", ["w", "w"], ["x"]),
    )
    if place == "initializer":
        proto.graph.initializer.append(tensor)
    elif place == "constant":
        node = [constant, node]
    elif place == "subgraph":
        branch = helper.make_graph([node], "b", [], [helper.make_tensor_value_info("x", 1, None)], [tensor])
        proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        node = helper.make_node("If", ["yes"], ["x"], then_branch=branch, else_branch=branch)
    elif place == "sparse":
        indices = numpy_helper.from_array(np.arange(40), "i")
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [40, 40]))
    else:
        opset = helper.make_opsetid("", 17)
        proto.functions.append(helper.make_function("d", "F", [], ["x"], [constant, node], [opset]))
        proto.opset_import.add(domain="d", version=1)
        node = helper.make_node("F", [], ["x"], domain="d")
    proto.graph.node.extend(node if isinstance(node, list) else [node])
    proto.graph.node.append(helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0))
    proto.graph.node.append(helper.make_node("Mul", ["sum", "one"], ["product"]))
    end = next(node for node in proto.graph.node if node.output[0] == "next_c0")
    end.output[0] = "without"
    proto.graph.node.append(helper.make_node("Add", ["without", "product"], ["next_c0"]))
    return proto


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Locations of a file of weights in the working directory: relative, absolute, with `..`, and by a link."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(4 * 1600))
    (tmp_path / "link.bin").symlink_to(path)
    (tmp_path / "folder").mkdir()
    return {
        "relative": "weights.bin",
        "absolute": str(path),
        "dots": "folder/../weights.bin",
        "escape": f"{'../' * 20}{path}",
        "link": "link.bin",
        "device": "/dev/zero",
        "package": "../session.py",
        "memory": "*/_ORT_MEM_ADDR_/*",
    }


@pytest.mark.parametrize("place", PLACES)
def test_onnxruntime_alone_would_read_external_data(weights, place):
    data = with_external_data("weights.bin", place).SerializeToString()
    assert onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]) is not None


KINDS = [("relative", place) for place in PLACES]
KINDS += [(kind, "initializer") for kind in ("absolute", "dots", "escape", "link", "device", "package", "memory")]


@pytest.mark.parametrize(("kind", "place"), KINDS)
def test_external_data_are_refused(refused, weights, kind, place):
    data = sealed(with_external_data(weights[kind], place).SerializeToString())
    refused(data, "keeps weights in a different file (external data), which keraslm does not read. ")


@pytest.mark.parametrize(("kind", "place"), KINDS)
def test_sessions_do_not_read_external_data(opened, weights, monkeypatch, kind, place):
    monkeypatch.setattr(opening, "_has_external_data", lambda data: False)
    with pytest.raises(ModelFileError, match=r"model\.onnx: not a model that onnxruntime can open"):
        opened(with_external_data(weights[kind], place))


def test_the_word_location_in_a_vocabulary_is_no_external_data(tmp_path):
    tokenizer = train_words(["location location and location"])
    table = np.log(np.full((tokenizer.vocab_size,) * 2, 1 / tokenizer.vocab_size))
    session = ModelSession(fake_model.write(tmp_path / "m.onnx", table, fake_model.info_of(tokenizer)))
    assert "location" in session.tokenizer.to_json()


def test_custom_operators_are_refused(opened):
    proto = fake_model.build()
    proto.opset_import.add(domain="com.example", version=1)
    proto.graph.node.add(op_type="Run", domain="com.example", input=["one"], output=["custom"])
    with pytest.raises(ModelFileError, match=r"not a model that onnxruntime can open \(.*com\.example"):
        opened(proto)


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch, tiny_model):
    with pytest.raises(ModelFileError, match=r"gone\.onnx: cannot be read \(No such file or directory\)\.$"):
        ModelSession(tmp_path / "gone.onnx")
    with pytest.raises(ModelFileError, match=f"keraslm export model.onnx --run {tmp_path}"):
        ModelSession(tmp_path)
    for path in ("/dev/zero", "/dev/null"):
        with pytest.raises(ModelFileError, match=f"^{path}: not a regular file"):
            ModelSession(path)
    monkeypatch.setattr(opening, "MAX_BYTES", 1000)
    with pytest.raises(ModelFileError, match=r"model\.onnx: [\d,]+ bytes; an ONNX file has at most 1,000"):
        ModelSession(tiny_model)


def test_a_wrong_provider_or_number_of_threads_is_refused(opened, plain, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match='`provider="cuda"` was requested, but this onnxruntime has no CUDA'):
        opened(sealed(plain), "cuda")
    with pytest.raises(UsageError, match="Unknown provider 'gpu'"):
        opened(sealed(plain), "gpu")
    with pytest.raises(UsageError, match="`threads` is 0, but must be at least 1, or None"):
        opened(sealed(plain), "cpu", 0)
    assert opened(sealed(plain), "auto").provider == "cpu"


def test_an_unavailable_cuda_provider_is_noticed(opened, plain, monkeypatch, capsys):
    """As with onnxruntime-gpu on a machine without a GPU."""
    make, both = onnxruntime.InferenceSession, ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda data, options, providers: make(data, options, providers=providers[1:])
    )
    with pytest.raises(UsageError, match='`provider="cuda"` was requested, but onnxruntime could not start CUDA'):
        opened(sealed(plain), "cuda")
    assert opened(sealed(plain), "auto").provider == "cpu"
    assert capsys.readouterr().err == "keraslm: CUDA could not be started; scoring runs on the CPU.\n"
