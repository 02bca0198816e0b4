import dataclasses

import numpy as np
import pytest

from keraslm.errors import ConfigError
from keraslm.evaluation.dynamic import DynamicSettings
from keraslm.evaluation.dynamic_tuning import tune

START = DynamicSettings(learning_rate=1e-5, decay=1e-3)
IDS = np.zeros(4000, np.int32)


class Bowl:
    """Costs of a token that grow with the square of the distance to the best eta and lambda, in powers of e."""

    best = {"learning_rate": 4e-4, "decay": 2e-3}
    diverges_from = np.inf
    seen: list[tuple[DynamicSettings, int]]

    def __init__(self):
        Bowl.seen = []

    def segments(self, ids, settings, statistics):
        cost = 5.0 + sum(0.05 * np.log(getattr(settings, k) / v) ** 2 for k, v in self.best.items() if settings.decay)
        if settings.learning_rate > self.diverges_from:
            cost = np.inf
        for done in range(500, len(ids) + 1, 500):
            yield np.full(500, cost)
            Bowl.seen = [*(pair for pair in Bowl.seen if pair[0] != settings), (settings, done)]


def near(value, wanted):
    return max(value / wanted, wanted / value)


def test_eta_and_lambda_end_near_the_best():
    found = tune(Bowl(), IDS, None, START, lambda line: None)
    assert near(found.learning_rate, 4e-4) < 1.3
    assert near(found.decay, 2e-3) < 1.3
    assert all(float(f"{value:g}") == value for value in (found.learning_rate, found.decay))  # as a report prints it
    assert dataclasses.replace(found, learning_rate=1e-5, decay=1e-3) == START


def test_every_setting_is_said_and_none_tried_twice():
    lines = []
    tune(Bowl(), IDS, None, START, lines.append, tokens=3000)
    assert lines[0] == "dynamic       tuning on 3,000 tokens"
    assert lines[1].startswith("dynamic       lr 1e-05, decay 0.001: perplexity ")
    assert len(lines) == len(set(lines)) == len(Bowl.seen) + 1 < 20


def test_clearly_worse_settings_are_given_up_early():
    lines = []
    tune(Bowl(), IDS, None, dataclasses.replace(START, learning_rate=4e-4, decay=2e-3), lines.append)
    assert "perplexity 157.65 after 1,000 tokens, given up" in lines[2]  # exp(5 + 0.05 * ln(3) ** 2)
    assert {done for _, done in Bowl.seen} <= {500, 4000}  # a generator that is left does not come back


def test_settings_that_diverge_lose(monkeypatch):
    monkeypatch.setattr(Bowl, "diverges_from", 1e-3)
    lines = []
    found = tune(Bowl(), IDS, None, dataclasses.replace(START, learning_rate=1.0), lines.append)
    assert lines[1] == "dynamic       lr 1, decay 0.001: diverges"
    assert near(found.learning_rate, 4e-4) < 1.3


def test_a_lambda_of_0_stays_0(monkeypatch):
    found = tune(Bowl(), IDS, None, dataclasses.replace(START, decay=0.0), lambda line: None)
    assert found.decay == 0.0 and all(settings.decay == 0.0 for settings, _ in Bowl.seen)


def test_an_eta_of_0_cannot_be_tuned():
    with pytest.raises(ConfigError, match=r"learning_rate is 0\.0, but must be above 0 to begin tuning with"):
        tune(Bowl(), IDS, None, dataclasses.replace(START, learning_rate=0.0), lambda line: None)
