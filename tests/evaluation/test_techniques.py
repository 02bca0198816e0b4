"""What may be asked of evaluation at test time, and how the rest is refused."""

import pytest

from keraslm.errors import UsageError
from keraslm.evaluation.options import Techniques


def test_nothing_asked_for_is_false():
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
def test_what_is_not_given_is_tuned(fields, tunes):
    chosen = Techniques(**fields)
    assert chosen and chosen.tunes == tunes


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": 0.0}, "--temperature is 0.0, but must be a number above 0, or tune"),
        ({"temperature": "warm"}, "--temperature is 'warm'"),
        ({"temperature": float("nan")}, "--temperature is nan"),
        ({"cache_window": 0}, "--cache-window is 0, but must be a whole number of at least 1"),
        ({"cache_theta": -1.0}, "--cache-theta is -1.0, but must be 0 or more"),
        ({"cache_lambda": 1.0}, "--cache-lambda is 1.0, but must be at least 0 and below 1"),
        ({"dynamic_lr": -1.0}, "--dynamic-lr is -1.0"),
        ({"dynamic_decay": float("inf")}, "--dynamic-decay is inf"),
        ({"mc_dropout": 0}, "--mc-dropout is 0, but must be a whole number of at least 1"),
        ({"mc_dropout": 1.5}, "--mc-dropout is 1.5"),
        ({"seed": -1}, "--seed is -1"),
        ({"cache_theta": 0.5}, "--cache-theta belongs to --neural-cache, which was not given"),
        ({"dynamic_lr": 0.5}, "--dynamic-lr belongs to --dynamic, which was not given"),
        ({"dynamic": True, "dynamic_decay": 0.5}, "--dynamic-lr and --dynamic-decay belong together: give both"),
        ({"seed": 1}, "--seed belongs to --mc-dropout, which was not given"),
        (
            {"tune_on": "a.txt", "temperature": 1.0},
            "--tune-on a.txt names a text to tune on, but nothing is tuned here",
        ),
        ({"temperature": 1.0, "dynamic": True}, "--temperature and --dynamic do not combine"),
        ({"mc_dropout": 2, "with_runs": ("a",)}, "--mc-dropout and --with do not combine"),
        ({"neural_cache": True, "mc_dropout": 2}, "--neural-cache and --mc-dropout do not combine"),
        ({"neural_cache": True, "with_runs": ("a",)}, "on top of --temperature or of --dynamic"),
    ],
)
def test_what_is_refused(fields, words):
    with pytest.raises(UsageError) as refused:
        Techniques(**fields)
    assert words in str(refused.value)
