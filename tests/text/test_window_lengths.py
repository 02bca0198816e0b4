import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.text.stream import Windows
from keraslm.text.window_lengths import draw_lengths, window_count


@given(num_steps=st.integers(1, 80), extra=st.integers(0, 2000), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_lengths_fill_the_row_with_the_same_number_of_windows_in_every_epoch(num_steps, extra, seed, epoch):
    tokens = num_steps + extra
    lengths = draw_lengths(tokens, num_steps, seed, epoch)
    assert lengths.sum() == tokens and len(lengths) == window_count(tokens, num_steps)
    assert lengths.min() >= min(5, num_steps)
    np.testing.assert_array_equal(lengths, draw_lengths(tokens, num_steps, seed, epoch))


def test_lengths_have_the_distribution_of_awd_lstm():
    """The mean, the deviation and the share of half windows, compared with ten thousand draws of their formula."""
    random = np.random.default_rng(0)
    theirs = [
        max(5, int(random.normal(70 if random.random() < 0.95 else 35.0, 5))) for _ in range(10_000)
    ]  # main.py of salesforce/awd-lstm-lm
    ours = draw_lengths(10_000 * 68, 70, seed=3, epoch=1)
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.01)
    assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.05)
    assert np.mean(ours < 50) == pytest.approx(np.mean(np.array(theirs) < 50), abs=0.01)


@pytest.mark.parametrize("num_steps", [3, 8, 20, 70])
def test_the_number_of_windows_follows_from_the_mean_length(num_steps):
    random = np.random.default_rng(1)
    bases = np.where(random.random(200_000) < 0.95, num_steps, num_steps / 2)
    mean = np.maximum(min(5, num_steps), random.normal(bases, 5).astype(int)).mean()
    assert window_count(1_000_000, num_steps) == pytest.approx(1_000_000 / mean, rel=0.005)


# In a stream


def windows_of():
    return Windows(np.arange(1000), batch_size=3, num_steps=10, length_seed=4)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_token_of_a_row_except_the_first_is_a_target_once(epoch):
    windows = windows_of()
    windows.set_epoch(epoch)
    inputs, targets = (np.concatenate(parts, axis=1) for parts in zip(*windows, strict=True))
    np.testing.assert_array_equal(inputs, np.arange(3)[:, None] * 333 + np.arange(332))
    np.testing.assert_array_equal(targets, inputs + 1)
    assert windows.predicted == targets.size and windows.predicted + windows.left_over == 1000
    assert [w[0].shape[1] for w in windows] == list(windows.lengths) and windows.varies


def test_lengths_differ_between_epochs_and_seeds_but_are_reproducible():
    assert len({tuple(draw_lengths(2000, 20, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4
    windows = windows_of()
    first = windows.lengths
    windows.set_epoch(1)
    assert not np.array_equal(windows.lengths, first) and len(windows.lengths) == len(first) == len(windows)
    windows.set_epoch(0)
    np.testing.assert_array_equal(windows.lengths, first)
    even = Windows(np.arange(1000), 3, 10)
    even.set_epoch(3)
    assert list(even.lengths) == [10] * 33 and not even.varies


def test_sentences_start_from_zeros_wherever_the_windows_are_cut():
    ids = np.where(np.arange(1000) % 7 == 0, 0, np.arange(1000))
    windows = Windows(ids, 3, 10, context="sentence", eos_id=0, length_seed=4)
    for epoch in (0, 1):
        windows.set_epoch(epoch)
        for inputs, targets, resets in windows:
            assert inputs.shape == targets.shape
            np.testing.assert_array_equal(resets, inputs == 0)


@given(num_steps=st.integers(1, 30), batch_size=st.integers(1, 4), extra=st.integers(0, 400))
def test_a_text_with_a_fixed_window_has_a_varying_window(num_steps, batch_size, extra):
    windows = Windows(np.arange(batch_size * (num_steps + 1) + extra), batch_size, num_steps, length_seed=0)
    assert sum(w[1].size for w in windows) == windows.predicted == batch_size * math.fsum(windows.lengths)
