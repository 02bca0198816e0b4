import dataclasses
import json
import re

import pytest

from keraslm.config import Config, DataConfig, ModelConfig, TrainConfig
from keraslm.errors import ConfigError

PARTS = (ModelConfig, DataConfig, TrainConfig)
FIELDS = [f for part in PARTS for f in dataclasses.fields(part)]
RATE = "a rate of at least 0 and below 1"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_layers", 0, "at least 1 and at most 1000"),
        ("units", 0, "at least 1"),
        ("embedding_dim", -1, "0 (as many as units) or more"),
        ("embedding_dropout", 1.0, RATE),
        ("embedding_dropout", -0.1, RATE),
        ("recurrent_dropout", 1.0, RATE),
        ("recurrent_dropout", -0.1, RATE),
        ("output_dropout", 1.0, RATE),
        ("output_dropout", -0.1, RATE),
        ("init_scale", 0.0, "above 0"),
        ("errors", "ignore", "strict or replace"),
        ("vocab_size", 2, "at least 3 (<eos>, <unk> and a word)"),
        ("min_count", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("num_steps", 0, "at least 1"),
        ("epochs", 0, "at least 1"),
        ("learning_rate", 0.0, "above 0"),
        ("lr_decay", 0.0, "above 0 and at most 1"),
        ("lr_decay", 1.5, "above 0 and at most 1"),
        ("lr_decay_from", -1, "0 or more"),
        ("clip_norm", -1.0, "0 or more"),
        ("log_every", -1, "0 or more"),
        ("seed", -1, "between 0 and 2**32 - 1"),
        ("seed", 2**32, "between 0 and 2**32 - 1"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_was_expected(name, value, expected):
    with pytest.raises(ConfigError) as caught:
        Config().replace(**{name: value})
    assert str(caught.value) == f"{name} is {value!r}, but must be {expected}."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_layers", 1),
        ("units", 1),
        ("embedding_dim", 0),
        ("embedding_dropout", 0.0),
        ("recurrent_dropout", 0.99),
        ("output_dropout", 0.99),
        ("init_scale", 1e-9),
        ("errors", "replace"),
        ("vocab_size", 3),
        ("lr_decay", 1.0),
        ("lr_decay_from", 0),
        ("clip_norm", 0.0),
        ("seed", 2**32 - 1),
    ],
)
def test_the_ends_of_the_ranges_are_accepted(name, value):
    config = Config().replace(**{name: value})
    assert value in [getattr(part, name, None) for part in (config.model, config.data, config.train)]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("units", 8.0, "int"),
        ("units", "8", "int"),
        ("units", True, "int"),
        ("units", None, "int"),
        ("lowercase", 1, "bool"),
        ("train", 3, "tuple"),
        ("train", (3,), "tuple"),
        ("data", 3, "str"),
        ("learning_rate", "1", "float"),
        ("learning_rate", False, "float"),
        ("learning_rate", float("nan"), "float"),
        ("clip_norm", float("inf"), "float"),
    ],
)
def test_a_value_of_another_type_is_refused(name, value, kind):
    with pytest.raises(
        ConfigError, match=f"^{name} is {re.escape(repr(value))}, but must be of type {kind} and finite"
    ):
        Config().replace(**{name: value})


def test_a_whole_number_will_do_for_a_float():
    value = Config().replace(learning_rate=2).train.learning_rate
    assert value == 2.0 and type(value) is float


def test_contradictory_paths_are_refused():
    with pytest.raises(ConfigError, match="either --data, or --train and --valid"):
        DataConfig(data="folder", train="a.txt")
    with pytest.raises(ConfigError, match="either --data, or --train and --valid"):
        DataConfig(data="folder", valid="a.txt")
    with pytest.raises(ConfigError, match=r"--valid a\.txt was given without --train"):
        DataConfig(valid="a.txt")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adamw"}, "learning_rate is 1, a rate of SGD. Give, for example, --learning-rate 0.001"),
        ({"optimizer": "adamw", "learning_rate": 30.0}, "learning_rate is 30, a rate of SGD"),
        ({"lr_final": 0.1}, "--lr-final belongs to --lr-schedule cosine, not decay"),
    ],
)
def test_what_does_not_go_together_in_a_training_is_refused(fields, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        TrainConfig(**fields)


# The whole


def test_replace_finds_each_field_in_its_part():
    config = Config().replace(units=7, min_count=3, epochs=2)
    assert (config.model.units, config.data.min_count, config.train.epochs) == (7, 3, 2)
    assert config.replace() == config
    assert config.replace(units=200, min_count=1, epochs=13) == Config()


def test_an_unknown_field_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"Unknown configuration field 'unit'\. Known are: .*num_steps.*units"):
        Config().replace(unit=7, epochs=2)


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().model.units = 3


def test_embedding_is_as_large_as_the_layers_unless_said_otherwise():
    assert ModelConfig(units=30).embedding_size == 30
    assert ModelConfig(units=30, embedding_dim=20).embedding_size == 20


def test_configuration_goes_round_through_json():
    config = Config().replace(units=7, train="a.txt", lowercase=True, learning_rate=0.1, seed=5, errors="replace")
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("values", [None, [], {}, {"model": {}, "data": {}}, {"model": {}, "data": {}, "train": 3}])
def test_a_missing_section_is_named(values):
    with pytest.raises(ConfigError, match=r"has no section '(model|train)'"):
        Config.from_dict(values)


def test_from_dict_refuses_what_replace_refuses():
    values = Config().to_dict()
    values["model"]["units"] = "many"
    with pytest.raises(ConfigError, match="units is 'many'"):
        Config.from_dict(values)
    values["model"] = {"heads": 3}
    with pytest.raises(ConfigError, match="Unknown configuration field 'heads'"):
        Config.from_dict(values)


def test_from_dict_looks_for_a_field_in_its_own_section_only():
    values = Config().to_dict()
    values["model"]["epochs"] = 3
    with pytest.raises(ConfigError, match="epochs"):
        Config.from_dict(values)


def test_names_are_unique_over_the_parts():
    names = [f.name for f in FIELDS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("f", FIELDS, ids=lambda f: f.name)
def test_every_field_has_a_sentence(f):
    text = f.metadata["help"]
    assert text[0].isupper() and text.endswith((".", ")")) and len(text) > 15
