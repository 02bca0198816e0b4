"""Metadata of a model file."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from keraslm.config import Config
from keraslm.errors import ModelFileError
from keraslm.scoring import contract
from keraslm.scoring.contract import ModelInfo
from tests.support.fake_model import model_info

KEYS = {
    *("format_version", "keraslm_version", "tokenizer", "tokenizer_sha256", "vocab_size", "unk_id", "bos_id", "eos_id"),
    *("num_layers", "hidden_size", "embedding_dim", "valid_perplexity", "config", "softmax", "precision"),
}


def test_names_of_inputs_and_outputs_are_fixed():
    assert contract.INPUTS == ("input_ids", "h0", "c0", "targets")
    assert contract.OUTPUTS == ("log_probs", "next_h0", "next_c0", "target_log_probs", "hidden")


def test_metadata_are_strings_under_the_published_keys():
    metadata = model_info(valid_perplexity=12.5).to_metadata()
    assert metadata.keys() == KEYS
    assert all(type(value) is str for value in metadata.values())
    assert (metadata["format_version"], metadata["vocab_size"], metadata["valid_perplexity"]) == ("5", "6", "12.5")


@pytest.mark.parametrize("version", ["3", "4", "5"])
def test_metadata_are_read_back(version):
    info = model_info(valid_perplexity=1 / 3)
    found = ModelInfo.from_metadata(info.to_metadata() | {"format_version": version}, "m.onnx")
    assert found == dataclasses.replace(info, format_version=version)
    assert found.has_hidden == (version == "5") == ("hidden" in found.names)
    assert math.isnan(ModelInfo.from_metadata(model_info().to_metadata(), "m.onnx").valid_perplexity)


def test_metadata_of_a_different_program_are_refused():
    with pytest.raises(ModelFileError, match=r"^m\.onnx: an ONNX model, but not one made by keraslm .*keraslm export"):
        ModelInfo.from_metadata({"producer": "somebody"}, "m.onnx")


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_missing_key_is_refused(key):
    metadata = model_info().to_metadata()
    del metadata[key]
    if key in ("format_version", "keraslm_version"):
        message = "not one made by keraslm"
    else:
        message = f"^m.onnx: the metadata have no '{key}'; the file is damaged"
    with pytest.raises(ModelFileError, match=message):
        ModelInfo.from_metadata(metadata, "m.onnx")


@pytest.mark.parametrize("version", ["1", "2", "6", ""])
def test_an_unreadable_format_version_is_refused(version):
    metadata = model_info().to_metadata() | {"format_version": version}
    message = rf"^m\.onnx: format version {version}, but this keraslm reads 3, 4 and 5\. Export the run again: keraslm "
    with pytest.raises(ModelFileError, match=message):
        ModelInfo.from_metadata(metadata, "m.onnx")


@pytest.mark.parametrize(
    ("key", "known"),
    [("softmax", "full, sampled, adaptive, mixture"), ("precision", "float32, int8")],
    ids=["softmax", "precision"],
)
def test_an_unknown_kind_is_refused(key, known):
    with pytest.raises(ModelFileError, match=rf"^m\.onnx: metadata {key} is 'hard', none of {known}\.$"):
        ModelInfo.from_metadata(model_info().to_metadata() | {key: "hard"}, "m.onnx")


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ModelInfo) if f.type in ("int", "float")])
def test_a_value_that_is_not_a_number_is_refused(field):
    metadata = model_info().to_metadata() | {field: "many"}
    with pytest.raises(ModelFileError, match=rf"^m\.onnx: metadata '{field}' is not a (int|float) \(.*'many'"):
        ModelInfo.from_metadata(metadata, "m.onnx")


def test_the_configuration_is_that_of_the_run():
    config = Config().replace(units=3, train="text.txt")
    sizes = {"num_layers": 2, "hidden_size": 3, "embedding_dim": 3}
    assert model_info(config=json.dumps(config.to_dict()), **sizes).configuration("m.onnx") == config


def test_configuration_may_name_the_units_of_each_layer():
    config = Config().replace(layer_units=(4, 7, 5), cell="gru", softmax="mixture", embedding_dim=2)
    sizes = {"num_layers": 3, "hidden_size": 7, "embedding_dim": 2, "softmax": "mixture"}
    assert model_info(config=json.dumps(config.to_dict()), **sizes).configuration("m.onnx") == config
    for other in ({"num_layers": 2}, {"hidden_size": 5}, {"softmax": "full"}):
        with pytest.raises(
            ModelFileError, match=r"^m\.onnx: metadata 'config' is the configuration of a different network"
        ):
            model_info(config=json.dumps(config.to_dict()), **sizes | other).configuration("m.onnx")


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}", '{"model": {"units": 0}, "data": {}, "train": {}}'])
def test_a_damaged_configuration_is_refused(damaged):
    with pytest.raises(ModelFileError, match=r"^m\.onnx: metadata 'config' is not a configuration"):
        model_info(config=damaged).configuration("m.onnx")
