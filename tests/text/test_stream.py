import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import TextError
from keraslm.text.stream import EveryToken, Windows

ALPHABET = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8).astype(np.int32)
small = st.integers(1, 9)


def letters(ids):
    return ["".join(map(chr, row)) for row in ids]


# Windows


def test_the_alphabet_of_the_documentation():
    windows = Windows(ALPHABET, batch_size=4, num_steps=2)
    found = [(letters(inputs), letters(targets)) for inputs, targets in windows]
    assert found == [
        (["ab", "gh", "mn", "st"], ["bc", "hi", "no", "tu"]),
        (["cd", "ij", "op", "uv"], ["de", "jk", "pq", "vw"]),
    ]
    assert (len(windows), windows.predicted, windows.left_over) == (2, 16, 10)


@given(tokens=st.integers(0, 300), batch_size=small, num_steps=small)
def test_rows_continue_and_targets_are_shifted_by_one(tokens, batch_size, num_steps):
    if tokens < batch_size * (num_steps + 1):
        with pytest.raises(TextError):
            Windows(np.arange(tokens), batch_size, num_steps)
        return
    windows = Windows(np.arange(tokens), batch_size, num_steps)
    inputs = np.concatenate([w[0] for w in windows], axis=1)
    targets = np.concatenate([w[1] for w in windows], axis=1)
    row_length = tokens // batch_size
    starts = row_length * np.arange(batch_size)[:, None]
    np.testing.assert_array_equal(inputs, starts + np.arange(len(windows) * num_steps))
    np.testing.assert_array_equal(targets, inputs + 1)
    assert targets[:, -1].max() < tokens
    assert windows.predicted == np.unique(targets).size and windows.predicted + windows.left_over == tokens


@pytest.mark.parametrize(
    ("tokens", "batch_size", "num_steps", "count"),
    [(929_589, 20, 20, 2323), (929_589, 20, 35, 1327), (73_760, 20, 20, 184), (73_760, 20, 35, 105)],
)
def test_ptb_has_the_windows_of_the_tutorial(tokens, batch_size, num_steps, count):
    windows = Windows(np.zeros(tokens, np.int32), batch_size, num_steps)
    assert len(windows) == (tokens // batch_size - 1) // num_steps == count
    assert windows.predicted == count * batch_size * num_steps


@pytest.mark.parametrize("index", [-1, 2])
def test_a_window_beyond_the_last_is_an_index_error(index):
    with pytest.raises(IndexError, match=f"window {index} of 2"):
        Windows(ALPHABET, 4, 2)[index]


# Too short


def test_a_text_that_is_too_short_is_refused_with_the_numbers():
    message = (
        r"poem\.txt: 26 tokens are too few for one window of batch_size 9 x num_steps 2 "
        r"\(at least 27 are needed\)\. No sizes make a model of so short a text useful\. Use a longer text\."
    )
    with pytest.raises(TextError, match=message):
        Windows(ALPHABET, 9, 2, "poem.txt")
    with pytest.raises(TextError, match=r"2,600 tokens .* Use `batch_size=12` or less, or a longer text\."):
        Windows(np.tile(ALPHABET, 100), 128, 20)


@given(tokens=st.integers(1000, 9000), batch_size=st.integers(1, 900), num_steps=st.integers(1, 2000))
def test_the_advised_sizes_give_ten_windows(tokens, batch_size, num_steps):
    ids = np.arange(tokens)
    if tokens >= batch_size * (num_steps + 1):
        return
    with pytest.raises(TextError) as caught:
        Windows(ids, batch_size, num_steps)
    advice = dict(re.findall(r"`(\w+)=(\d+)`", str(caught.value)))
    rows, steps = int(advice["batch_size"]), int(advice.get("num_steps", num_steps))
    assert len(Windows(ids, rows, steps)) >= 10 and steps <= num_steps
    assert steps == num_steps or (rows == 1 and steps >= 99)


# Every token


@given(tokens=st.integers(1, 60), num_steps=st.integers(1, 70))
def test_every_token_is_a_target_once_and_all_windows_except_the_last_are_full(tokens, num_steps):
    stream = EveryToken(np.arange(1, tokens + 1), eos_id=0, num_steps=num_steps)
    inputs = np.concatenate([w[0] for w in stream], axis=1)
    targets = np.concatenate([w[1] for w in stream], axis=1)
    np.testing.assert_array_equal(targets, [np.arange(1, tokens + 1)])
    np.testing.assert_array_equal(inputs, [np.arange(tokens)])
    assert stream.predicted == tokens
    lengths = [inputs.shape[1] for inputs, _ in stream]
    assert len(lengths) == len(stream)
    assert set(lengths[:-1]) <= {num_steps} and 1 <= lengths[-1] <= num_steps


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_text_of_fewer_than_two_tokens_is_too_short_for_any_size(tokens):
    with pytest.raises(TextError, match=rf"poem\.txt: {tokens} token") as caught:
        Windows(ALPHABET[:tokens], 1, 1, "poem.txt")
    assert "`batch_size=" not in str(caught.value) and "Use a longer text" in str(caught.value)


def test_an_empty_text_cannot_be_evaluated():
    with pytest.raises(TextError, match=r"poem\.txt: 0 tokens; there is nothing to evaluate"):
        EveryToken(ALPHABET[:0], 0, 5, "poem.txt")
