"""Rows stay on their device, in their part, in every window; states come back in the order of the stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import ConfigError
from keraslm.text.stream import Windows
from keraslm.training.dataset import BatchDataset
from keraslm.training.rows import Rows


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_every_row_is_trained_once_per_window_in_one_place(devices, parts, each):
    size = devices * parts * each
    places = {}
    for process in range(devices):  # a process per device
        rows = Rows(size, devices, parts, devices, process)
        for part in range(parts):
            for row in rows.of_step(np.arange(size), part):
                assert places.setdefault(int(row), (process, part)) == (process, part)
    assert sorted(places) == [*range(size)]
    by_device = [[row for row in sorted(places) if places[row][0] == device] for device in range(devices)]
    assert [row for own in by_device for row in own] == [*range(size)]  # device k has rows kB/N to (k+1)B/N


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_states_are_in_the_order_of_the_rows(devices, parts, each):
    """A device appends the state of each part that it has computed: what it holds are the rows that it was given."""
    size = devices * parts * each
    state = np.random.default_rng(0).normal(size=(size, 5))
    one_process = Rows(size, devices, parts)
    computed = np.stack([one_process.of_step(state, part) for part in range(parts)])
    held = one_process.by_device(state)
    np.testing.assert_array_equal(held, computed if parts > 1 else computed[0])
    np.testing.assert_array_equal(one_process.in_order(held), state)


def test_each_process_reads_the_continuation_of_its_rows():
    """The alphabet of `keraslm.text.stream`: row r of window 1 continues row r of window 0, in the same process."""
    windows = Windows(np.arange(26), batch_size=4, num_steps=2)
    for process in range(2):
        data = BatchDataset(windows, rows=Rows(4, 2, 2, 2, process))
        assert len(data) == 4  # two windows in two parts
        (first, _), _ = data[0]
        (second, _), targets = data[1]
        (third, _), _ = data[2]
        start = 12 * process
        np.testing.assert_array_equal(first, [[start, start + 1]])
        np.testing.assert_array_equal(second, [[start + 6, start + 7]])
        np.testing.assert_array_equal(third, [[start + 2, start + 3]])
        np.testing.assert_array_equal(targets, second + 1)


def test_unequal_shares_are_refused():
    with pytest.raises(ConfigError, match=r"`batch_size` is 20, which 8 devices do not divide.*Use a multiple of 8"):
        Rows(20, devices=8)
    with pytest.raises(ConfigError, match=r"2 devices with `accumulate`, 4, do not divide.*Use a multiple of 8"):
        Rows(20, devices=2, parts=4)
