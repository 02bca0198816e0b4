"""A training run is killed five times; `tests/torture/kill_training.py` kills it a hundred times."""

from __future__ import annotations

from tests.torture.kill_training import torture


def test_a_killed_training_ends_bit_for_bit_the_same(backend, tmp_path):
    lines = []
    tally = torture(backend, kills=5, seed=7, folder=tmp_path, log=lines.append)
    assert sum(tally.kills.values()) >= 5 and tally.finished >= 1, lines
    assert tally.differing == []
    assert tally.compared >= 29 * tally.finished
