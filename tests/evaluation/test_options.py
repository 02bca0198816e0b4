"""`Techniques`: which options are accepted, and the errors for the others."""

import dataclasses
from typing import get_type_hints

import pytest

from keraslm.config.overrides import Paths
from keraslm.errors import UsageError
from keraslm.evaluation.options import TechniqueOptions, Techniques


def test_the_typed_dictionary_has_the_fields_of_the_dataclass():
    fields, options = get_type_hints(Techniques), get_type_hints(TechniqueOptions)
    paths = dict.fromkeys(("with_runs", "tune_on"), Paths | None)
    assert options == fields | paths
    assert list(options) == [f.name for f in dataclasses.fields(Techniques)]


def test_no_technique_is_false():
    assert not Techniques() and not Techniques().tunes


@pytest.mark.parametrize(
    ("fields", "tunes"),
    [
        ({"temperature": "tune"}, True),
        ({"temperature": 1.2}, False),
        ({"neural_cache": True}, True),
        ({"neural_cache": True, "cache_theta": 0.0}, True),
        ({"neural_cache": True, "cache_theta": 0.0, "cache_lambda": 0.0}, False),
        ({"dynamic": True}, True),
        ({"dynamic": True, "dynamic_lr": 0.1, "dynamic_decay": 0.0, "neural_cache": True}, True),
        ({"dynamic": True, "dynamic_lr": 0.0, "dynamic_decay": 0.0}, False),
        ({"mc_dropout": 1, "seed": 0}, False),
        ({"with_runs": "runs/b"}, False),
    ],
)
def test_missing_parameters_are_tuned(fields, tunes):
    chosen = Techniques(**fields)
    assert chosen and chosen.tunes == tunes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 0.0}, "`temperature` is 0.0, but must be a number above 0, or tune."),
        ({"temperature": "warm"}, "`temperature` is 'warm'"),
        ({"temperature": float("nan")}, "`temperature` is nan"),
        ({"cache_window": 0}, "`cache_window` is 0, but must be an integer of at least 1."),
        ({"cache_theta": -1.0}, "`cache_theta` is -1.0, but must be a number of at least 0."),
        ({"cache_lambda": 1.0}, "`cache_lambda` is 1.0, but must be at least 0 and below 1."),
        ({"dynamic_lr": -1.0}, "`dynamic_lr` is -1.0"),
        ({"dynamic_decay": float("inf")}, "`dynamic_decay` is inf"),
        ({"mc_dropout": 0}, "`mc_dropout` is 0, but must be an integer of at least 1."),
        ({"mc_dropout": 1.5}, "`mc_dropout` is 1.5"),
        ({"seed": -1}, "`seed` is -1, but must be an integer of at least 0."),
        ({"cache_theta": 0.5}, "`cache_theta` needs `neural_cache`, which is not set."),
        ({"dynamic_lr": 0.5}, "`dynamic_lr` needs `dynamic`, which is not set."),
        ({"dynamic": True, "dynamic_decay": 0.5}, "Give both `dynamic_lr` and `dynamic_decay`, or neither"),
        ({"seed": 1}, "`seed` needs `mc_dropout`, which is not set."),
        ({"tune_on": "a.txt", "temperature": 1.0}, "`tune_on` is a.txt, but nothing is tuned. Add `temperature="),
        ({"temperature": 1.0, "dynamic": True}, "`temperature` and `dynamic` cannot be combined."),
        ({"mc_dropout": 2, "with_runs": ("a",)}, "`mc_dropout` and `with_runs` cannot be combined."),
        ({"neural_cache": True, "mc_dropout": 2}, "`neural_cache` and `mc_dropout` cannot be combined."),
        (
            {"neural_cache": True, "with_runs": ("a",)},
            "only combinations are `neural_cache` with `temperature` or with `dynamic`.",
        ),
    ],
)
def test_invalid_options_raise(fields, message):
    with pytest.raises(UsageError) as error:
        Techniques(**fields)
    assert message in str(error.value)
