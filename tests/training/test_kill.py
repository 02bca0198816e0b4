"""A training that is killed five times; `tests/torture/kill_training.py` kills it a hundred times."""

from __future__ import annotations

from tests.torture.kill_training import torture


def test_a_training_that_is_killed_ends_as_one_that_never_was(backend, tmp_path):
    said = []
    tally = torture(backend, kills=5, seed=7, folder=tmp_path, log=said.append)
    assert sum(tally.kills.values()) >= 5 and tally.finished >= 1, said
    assert tally.differing == []
    assert tally.compared >= 29 * tally.finished
