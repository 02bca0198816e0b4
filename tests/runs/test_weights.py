import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from keraslm.config import ModelConfig
from keraslm.config.shapes import weight_shapes
from keraslm.errors import RunError
from keraslm.network.model import build_model
from keraslm.runs.weights import read_weights, write_weights
from tests.support.made_run import random_weights

CONFIG = ModelConfig(num_layers=2, units=4, embedding_dim=3)
V = 7


def made_up():
    return random_weights(CONFIG, V)


@pytest.fixture
def path(tmp_path):
    write_weights(tmp_path / "weights.safetensors", made_up())
    return tmp_path / "weights.safetensors"


def read(path):
    return read_weights(path, weight_shapes(CONFIG, V))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layer_units": (5, 4, 3), "embedding_dim": None},
        {"layer_units": (5, 3), "tie_weights": True},
        {"softmax": "mixture", "num_experts": 2},
        {"softmax": "mixture", "num_experts": 2, "tie_weights": True},
        {"softmax": "adaptive", "cutoffs": (3,), "layer_units": (5, 4)},
        {"softmax": "sampled", "layer_units": (5, 4)},
    ],
    ids=str,
)
def test_names_and_shapes_are_those_of_the_network(changes):
    config = replace(CONFIG, **changes)
    model = build_model(config, V, batch_size=2)
    assert weight_shapes(config, V) == {v.path: tuple(v.shape) for v in model.trainable_variables}


def test_weights_survive_a_round_trip(path):
    found = read(path)
    assert found.keys() == made_up().keys()
    for name, value in made_up().items():
        np.testing.assert_array_equal(found[name], value)


def test_arrays_of_any_memory_order_are_written_correctly(path):
    turned = {name: np.asfortranarray(value) for name, value in made_up().items()}
    turned["logits/bias"] = np.repeat(made_up()["logits/bias"], 2)[::2]
    write_weights(path, turned)
    for name, value in made_up().items():
        np.testing.assert_array_equal(read(path)[name], value)


@given(st.data())
def test_a_flipped_bit_is_found_or_changes_no_weight(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        write_weights(path, made_up())
        changed = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(changed)
        try:
            found = read(path)
        except RunError:
            return
    assert place < 8 + int.from_bytes(changed[:8], "little"), "a weight was changed"
    for name, value in made_up().items():
        np.testing.assert_array_equal(found[name], value)


def test_changed_weights_are_refused(path):
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(RunError, match=r"damaged, its weights do not have the SHA-256 in its metadata"):
        read(path)


def test_weights_of_a_different_program_need_no_digest(path):
    save_file(made_up(), path)
    np.testing.assert_array_equal(read(path)["logits/bias"], made_up()["logits/bias"])


def test_a_failed_write_leaves_only_the_old_weights(path):
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"(?i)dtype|object"):
        write_weights(path, {"logits/bias": np.array([object()])})
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["absent.safetensors", "."])
def test_missing_weights_are_named(tmp_path, name):
    with pytest.raises(RunError, match=r"no weights\. No epoch was finished since the training began"):
        read(tmp_path / name)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_truncated_weights_are_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError, match=r"weights\.safetensors: damaged, not a complete safetensors file"):
        read(path)


BIAS = np.zeros(16, np.float32)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *((np.append(BIAS[1:], np.float32(x)), r"contains NaN or infinity \(1 of") for x in ("nan", "-inf")),
        (BIAS[:5], r"is float32 \(5,\), but config\.json requires .* \(16,\)"),
        *((BIAS.astype(kind), rf"is {kind} \(16,\), but") for kind in ("float64", "float16", "int32")),
    ],
)
def test_a_bad_tensor_is_named(path, value, message):
    save_file(made_up() | {"lstm_0/bias": value}, path)
    with pytest.raises(RunError, match=f"tensor lstm_0/bias {message}"):
        read(path)


def test_missing_and_unexpected_tensors_are_named(path):
    weights = made_up()
    weights["lstm_2/bias"] = weights.pop("lstm_0/bias")
    save_file(weights, path)
    with pytest.raises(RunError, match=r"does not match config\.json; .*: lstm_0/bias, lstm_2/bias\."):
        read(path)


def test_a_type_missing_in_numpy_is_refused(path):
    header = b'{"logits/bias":{"dtype":"BF16","shape":[7],"data_offsets":[0,14]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(14))
    with pytest.raises(RunError, match=r"weights\.safetensors"):
        read(path)


def test_weights_of_a_different_vocabulary_are_refused(path):
    with pytest.raises(RunError, match=r"tensor embedding/embeddings is float32 \(7, 3\), but .* \(8, 3\)"):
        read_weights(path, weight_shapes(CONFIG, V + 1))
