import dataclasses
import json
import re
from pathlib import Path
from typing import get_type_hints

import pytest

from keraslm.config import Config, DataConfig, ModelConfig, Overrides, TrainConfig, TransferConfig
from keraslm.config.fields import split_optional
from keraslm.errors import ConfigError

PARTS = (ModelConfig, DataConfig, TrainConfig, TransferConfig)
FIELDS = [f for part in PARTS for f in dataclasses.fields(part)]
RATE = "a rate of at least 0 and below 1"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_layers", 0, "at least 1 and at most 1000"),
        *((name, 0, "at least 1") for name in ("units", "embedding_dim", "mogrifier_rank", "min_count", "batch_size")),
        *((name, 0, "at least 1") for name in ("num_steps", "epochs", "early_stopping", "nonmonotone_interval")),
        *((name, 0, "at least 1") for name in ("log_every", "checkpoint_windows", "num_sampled", "lr_patience")),
        *((name, bad, RATE) for name in ("embedding_dropout", "recurrent_dropout") for bad in (1.0, -0.1)),
        *((name, bad, RATE) for name in ("output_dropout", "last_dropout") for bad in (1.0, -1.0)),
        *((name, 0.0, "above 0") for name in ("init_scale", "embedding_init_scale", "learning_rate", "clip_norm")),
        ("checkpoint_minutes", 0.0, "above 0"),
        ("layer_units", (), "integers above 0, one per layer, e.g. (1150, 1150, 400)"),
        ("layer_units", (3, 0), "integers above 0, one per layer, e.g. (1150, 1150, 400)"),
        ("cutoffs", (20, 20), "increasing integers above 0, e.g. (2000, 20000)"),
        ("errors", "ignore", "one of strict, replace"),
        ("context", "line", "one of sentence, paragraph, document"),
        ("vocab_size", 2, "at least 3 (<eos>, <unk> and a word)"),
        ("lr_decay", 0.0, "above 0 and at most 1"),
        ("lr_decay", 1.5, "above 0 and at most 1"),
        ("lr_decay_from", -1, "at least 0"),
        ("seed", -1, "between 0 and 2**32 - 1"),
        ("seed", 2**32, "between 0 and 2**32 - 1"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_expected_range(name, value, expected):
    with pytest.raises(ConfigError) as caught:
        Config().replace(**{name: value})
    assert str(caught.value) == f"`{name}` is {value!r}, but must be {expected}."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_layers", 1),
        ("units", 1),
        ("embedding_dim", None),
        ("embedding_dropout", 0.0),
        ("recurrent_dropout", 0.99),
        ("init_scale", 1e-9),
        ("vocab_size", 3),
        ("lr_decay", 1.0),
        ("lr_decay_from", 0),
        ("clip_norm", None),
        ("seed", 2**32 - 1),
    ],
)
def test_the_ends_of_the_ranges_are_accepted(name, value):
    config = Config().replace(**{name: value})
    assert value in [getattr(part, name, "absent") for part in (config.model, config.data, config.train)]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("units", 8.0, "an integer"),
        ("units", "8", "an integer"),
        ("units", True, "an integer"),
        ("units", None, "an integer"),
        ("units", 1 << 70, "an integer"),
        ("embedding_dim", 2.5, "an integer or None"),
        ("lowercase", 1, "True or False"),
        ("train", 3, "strings in a tuple or None"),
        ("train", (3,), "strings in a tuple or None"),
        ("layer_units", "300,300", "integers in a tuple or None"),
        ("layer_units", 300, "integers in a tuple or None"),
        ("cutoffs", (2.0,), "integers in a tuple or None"),
        ("train_weights", 2.0, "finite numbers in a tuple or None"),
        ("train_weights", (2.0, float("nan")), "finite numbers in a tuple or None"),
        ("train_weights", (1.0, 0.0), "numbers from 0.001 to 1000, e.g. (2, 0.5)"),
        ("train_weights", (), "numbers from 0.001 to 1000, e.g. (2, 0.5)"),
        ("valid_share", 1.0, "a share above 0 and below 1, such as 0.05"),
        ("valid_share", 0.0, "a share above 0 and below 1, such as 0.05"),
        ("data", 3, "a string or None"),
        ("learning_rate", "1", "a finite number"),
        ("learning_rate", False, "a finite number"),
        ("learning_rate", float("nan"), "a finite number"),
        ("clip_norm", float("inf"), "a finite number or None"),
    ],
)
def test_a_value_of_a_different_type_is_refused(name, value, expected):
    with pytest.raises(ConfigError) as caught:
        Config().replace(**{name: value})
    assert str(caught.value) == f"`{name}` is {value!r}, but must be {expected}."


def test_values_are_brought_into_the_type_of_their_field():
    config = Config().replace(learning_rate=2, train=Path("a.txt"), valid=["b.txt", Path("c.txt")], layer_units=[3, 4])
    assert config.train.learning_rate == 2.0 and type(config.train.learning_rate) is float
    assert (config.data.train, config.data.valid) == (("a.txt",), ("b.txt", "c.txt"))
    assert config.model.layer_units == (3, 4)
    weights = Config().replace(train=["a", "b"], train_weights=[2, 0.5]).data.train_weights
    assert weights == (2.0, 0.5) and type(weights[0]) is float


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "folder", "train": "a.txt"}, "either `data`, or `train` and `valid`"),
        ({"data": "folder", "valid": "a.txt"}, "either `data`, or `train` and `valid`"),
        ({"valid": "a.txt"}, "`valid` is a.txt, but `train` is missing"),
        ({"train": "a", "valid": "b", "valid_share": 0.1}, "give either it or `valid`"),
        ({"valid_share": 0.1}, "`valid_share` needs a training text: give `train`"),
        ({"train_weights": (1,)}, "`train_weights` needs training texts: give one number for each text of `train`"),
        ({"data": "folder", "train_weights": (1,)}, "`train_weights` needs training texts"),
        ({"train": ("a", "b"), "train_weights": (1,)}, "one number per text of `train`, but it holds 1 for 2 texts"),
        ({"train": "a", "train_weights": (1, 2)}, "one number per text of `train`, but it holds 2 for 1 texts"),
        ({"shuffle": True}, '`shuffle` needs sentences or paragraphs: `context="sentence"`'),
        ({"optimizer": "adamw"}, "`learning_rate` is 1, a rate for SGD"),
        ({"optimizer": "adamw", "learning_rate": 30.0}, "Use, for example, `learning_rate=0.001`"),
        ({"lr_final": 0.1}, '`lr_final` needs `lr_schedule="cosine"`, but the schedule is decay'),
        ({"cutoffs": (5,)}, '`cutoffs` needs `softmax="adaptive"`'),
        ({"mogrifier_rank": 2}, "`mogrifier_rank` needs `mogrifier_rounds`, which is 0"),
        ({"cell": "gru", "mogrifier_rounds": 2}, '`mogrifier_rounds` needs `cell="lstm"`, but the cell is gru'),
        ({"cell": "rnn", "input_gate": "tied"}, '`input_gate` needs `cell="lstm"`, but the cell is rnn'),
        ({"layer_units": (3, 4), "skip_connections": True}, "must have the same size, but `layer_units` is 3,4"),
        ({"average_from": 1, "nonmonotone_interval": 5}, "both say when averaging starts"),
        ({"dtype": "bfloat16", "mogrifier_rounds": 2}, "needs a plain LSTM, but the cell has a Mogrifier"),
        ({"dtype": "bfloat16", "input_gate": "capped"}, "needs a plain LSTM, but the cell has a capped input gate"),
        ({"forget_bias": 1.0, "cell": "gru"}, '`forget_bias` needs `cell="lstm"`, but the cell is gru'),
        ({"dtype": "bfloat16", "cell": "gru"}, '`dtype="bfloat16"` needs a plain LSTM, but the cell is gru'),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Config().replace(**fields)


# The complete configuration


def test_replace_finds_each_field_in_its_part():
    config = Config().replace(units=7, min_count=3, epochs=2)
    assert (config.model.units, config.data.min_count, config.train.epochs) == (7, 3, 2)
    assert config.replace() == config
    assert config.replace(units=200, min_count=1, epochs=13) == Config()


def test_an_unknown_field_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"Unknown configuration field 'unit'\. Known fields: .*num_steps.*units"):
        Config().replace(unit=7, epochs=2)


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().model.units = 3


def test_the_embedding_has_the_size_of_the_last_layer_by_default():
    assert ModelConfig(units=30).embedding_size == ModelConfig(layer_units=(9, 30)).embedding_size == 30
    assert ModelConfig(units=30, embedding_dim=20).embedding_size == 20


def test_configuration_survives_json():
    config = Config().replace(units=7, train="a.txt", lowercase=True, learning_rate=0.1, errors="replace")
    config = config.replace(softmax="adaptive", cutoffs=(5, 9), clip_norm=None, last_dropout=0.5)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        ("data", {"documents": "none", "data": "", "cache": "", "valid": [], "eos_token": ""}, {"context": "document"}),
        ("data", {"documents": "line", "shuffle_documents": True}, {"context": "sentence", "shuffle": True}),
        ("data", {"documents": "blank-line", "train": ["a"]}, {"context": "paragraph", "train": ("a",)}),
        ("model", {"layer_units": "", "embedding_dim": 0, "last_dropout": -1.0, "cutoffs": ""}, {}),
        ("model", {"layer_units": "5,3", "mogrifier_rank": 0, "embedding_init_scale": 0.0}, {"layer_units": (5, 3)}),
        ("model", {"softmax": "adaptive", "cutoffs": "2, 09"}, {"softmax": "adaptive", "cutoffs": (2, 9)}),
        ("train", {"checkpoint_every": "500w"}, {"checkpoint_minutes": None, "checkpoint_windows": 500}),
        ("train", {"checkpoint_every": "2.5m", "clip_norm": 0.0}, {"checkpoint_minutes": 2.5, "clip_norm": None}),
        ("train", {"nonmonotone_interval": 0, "early_stopping": 0, "log_every": 0, "lr_final": 0.0}, {}),
    ],
)
def test_configurations_of_earlier_versions_are_read(section, old, new):
    parts = {"model": {}, "data": {}, "train": {}}
    assert Config.from_dict(parts | {section: old}) == Config().replace(**new)


@pytest.mark.parametrize("values", [None, [], {}, {"model": {}, "data": {}}, {"model": {}, "data": {}, "train": 3}])
def test_a_missing_section_is_named(values):
    with pytest.raises(ConfigError, match=r"has no section '(model|train)'"):
        Config.from_dict(values)


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("model", {"units": "many"}, "units is 'many', but must be an integer"),
        ("model", {"heads": 3}, "Unknown configuration field 'heads' in section 'model'"),
        ("model", {"epochs": 3}, "Unknown configuration field 'epochs' in section 'model'"),
        ("model", {"softmax": "adaptive", "cutoffs": "1" * 5000}, "cutoffs is"),
        ("data", {"documents": [3]}, "context is"),
        ("train", {"checkpoint_every": "often"}, "checkpoint_minutes is 'often'"),
        ("train", {"checkpoint_every": "infm"}, "checkpoint_minutes is inf"),
    ],
)
def test_from_dict_names_a_bad_field_without_quotes(section, fields, message):
    values = Config().to_dict()
    values[section] = fields
    with pytest.raises(ConfigError) as caught:
        Config.from_dict(values)
    assert message in str(caught.value) and "`" not in str(caught.value)


def test_field_names_are_unique_over_the_parts():
    names = [f.name for f in FIELDS]
    assert len(names) == len(set(names))


def test_overrides_list_each_field_with_its_type():
    """Where a field holds paths, an override may be any path or several; elsewhere the types are equal."""
    types = {name: hint for part in PARTS for name, hint in get_type_hints(part).items()}
    overrides = get_type_hints(Overrides)
    assert overrides.keys() == types.keys()
    paths = {"train", "valid", "data", "tokenizer", "cache", "init_from", "embeddings", "also_valid"}
    assert {name: hint for name, hint in overrides.items() if name not in paths} == {
        name: hint for name, hint in types.items() if name not in paths
    }


@pytest.mark.parametrize("f", FIELDS, ids=lambda f: f.name)
def test_every_field_has_a_help_text(f):
    text = f.metadata["help"]
    assert text.endswith((".", ")")) and len(text) > 15
    assert f.metadata["zero_is_none"] <= (f.default is None or split_optional(get_type_hints(_owner(f))[f.name])[1])


def _owner(f):
    return next(part for part in PARTS if f.name in part.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("train", "valid") for value in ("", (), [], ("",), ["a.txt", ""])),
        *((name, "") for name in ("data", "tokenizer", "cache", "eos_token", "unk_token")),
    ],
)
def test_an_empty_selection_is_refused(name, value):
    """It would mean the default, such as the corpus that Python contains; None means that nothing was given."""
    fields = {"train": "a.txt"} | {name: value}
    with pytest.raises(
        ConfigError, match=rf"`{name}` is empty: .*Perhaps a pattern matched no file, or a variable is not"
    ):
        Config().replace(**fields)


def test_an_empty_selection_of_an_earlier_run_means_what_it_meant():
    values = Config().to_dict()
    values["data"] |= {"train": [], "cache": ""}
    assert Config.from_dict(values) == Config()
