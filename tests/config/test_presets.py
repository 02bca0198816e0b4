import math

import pytest

from keraslm.config import Config
from keraslm.config.presets import PRESETS, preset
from keraslm.config.shapes import weight_shapes
from keraslm.errors import ConfigError

# Zaremba et al. 2014, section 4.1, and the three configuration classes of the PTB tutorial.
RECIPES = {
    "small": {
        "units": 200,
        "num_steps": 20,
        "init_scale": 0.1,
        "output_dropout": 0.0,
        "embedding_dropout": 0.0,
        "epochs": 13,
        "lr_decay": 0.5,
        "lr_decay_from": 4,
        "clip_norm": 5.0,
    },
    "medium": {
        "units": 650,
        "num_steps": 35,
        "init_scale": 0.05,
        "output_dropout": 0.5,
        "embedding_dropout": 0.5,
        "epochs": 39,
        "lr_decay": 0.8,
        "lr_decay_from": 6,
        "clip_norm": 5.0,
    },
    "large": {
        "units": 1500,
        "num_steps": 35,
        "init_scale": 0.04,
        "output_dropout": 0.65,
        "embedding_dropout": 0.65,
        "epochs": 55,
        "lr_decay": 1 / 1.15,
        "lr_decay_from": 14,
        "clip_norm": 10.0,
    },
}
SHARED = {
    "num_layers": 2,
    "batch_size": 20,
    "learning_rate": 1.0,
    "vocab_size": 10000,
    "forget_bias": 0.0,
    "recurrent_dropout": 0.0,
    "embedding_dim": None,
    "average_across_timesteps": False,
    "average_across_batch": True,
}


def values_of(config):
    return {name: value for part in config.to_dict().values() for name, value in part.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_presets_are_the_published_recipes(name):
    found, expected = values_of(preset(name)), SHARED | RECIPES[name]
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("awd", 24_221_600 - 4 * (1150 + 1150 + 400)),  # as published, less the second bias that PyTorch's LSTM has
        # The largest of 24 million: table and bias, two LSTMs, five rounds of two matrices of rank 84 in each.
        ("mogrifier", 912 * 10_000 + 10_000 + 2 * (4 * 912 * (2 * 912 + 1) + 5 * 2 * 912 * 84)),
    ],
)
def test_presets_have_the_published_size(name, parameters):
    assert sum(math.prod(shape) for shape in weight_shapes(preset(name).model, 10_000).values()) == parameters


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_states_only_what_differs_from_the_defaults(name):
    defaults = values_of(Config())
    assert all(defaults[key] != value for key, value in PRESETS[name].items())
    assert preset(name) == Config().replace(**PRESETS[name])


def test_changes_go_over_the_preset():
    config = preset("medium", epochs=2, units=10)
    assert (config.train.epochs, config.model.units, config.train.lr_decay) == (2, 10, 0.8)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(
        ConfigError,
        match=r"'huge'\. Known presets: tiny, char, byte, small, medium, large, cpu-hour, awd, mogrifier\.",
    ):
        preset("huge")


def test_an_unknown_field_is_refused():
    with pytest.raises(ConfigError, match="Unknown configuration field 'heads'"):
        preset("small", heads=2)


@pytest.mark.parametrize(("name", "sizes"), [("cpu-hour", "300,300"), ("awd", "1150,1150,400")])
@pytest.mark.parametrize("field", ["units", "num_layers"])
def test_a_size_that_the_sizes_of_a_preset_would_hide_is_refused(name, sizes, field):
    with pytest.raises(
        ConfigError, match=f"`{field}` has no effect, because preset {name} sets `layer_units` to {sizes};"
    ):
        preset(name, **{field: 3})
    assert preset(name, layer_units=None, tie_weights=False, **{field: 3}).model.sizes[0] in (3, 200)
    assert preset("small", layer_units=(7, 8), **{field: 3}).model.sizes == (7, 8)


@pytest.mark.parametrize(
    ("name", "changes", "rate"),
    [
        ("tiny", {}, 1.0),
        ("tiny", {"tokenizer": "bpe"}, 1.0),
        ("tiny", {"tokenizer": "char"}, 0.25),
        ("medium", {"tokenizer": "byte"}, 0.25),
        ("tiny", {"tokenizer": "char", "learning_rate": 0.7}, 0.7),
        ("tiny", {"tokenizer": "char", "average_across_timesteps": True}, 1.0),
        ("awd", {"tokenizer": "char"}, 30.0),
        ("cpu-hour", {"tokenizer": "char"}, 8e-3),
        ("char", {}, 6e-3),
        ("small", {"tokenizer": "byte", "learning_rate": 1.0}, 1.0),
    ],
)
def test_characters_and_bytes_start_at_a_lower_rate_of_summed_losses(name, changes, rate):
    assert preset(name, **changes).train.learning_rate == rate


def test_the_rate_of_sgd_is_not_lowered_for_adamw():
    with pytest.raises(ConfigError, match="a rate for SGD"):
        preset("tiny", tokenizer="char", optimizer="adamw")
