"""Keys as a function of the line, and suggestions after each key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.scoring.keyboard import BACKSPACE, END, ENTER, INTERRUPT, Suggestions, Typed, press
from keraslm.scoring.predict import predict
from tests.support.enumerated import KINDS, Known

WORDS = ("cat", "cats", "catch")


@pytest.mark.parametrize(
    ("text", "start", "keys", "expected"),
    [
        ("", 0, "a", "a"),
        ("the c", 4, "\t", "the cat "),
        ("the c", 4, "1", "the cat "),
        ("the c", 4, "3", "the catch "),
        ("the ", 4, "2", "the cats "),
        ("the c", 4, "4", "the c4"),
        ("the c", 4, "0", "the c0"),
        ("the 7", 4, "1", "the 71"),
        ("the c", 4, "\x161", "the c1"),
        ("the c", 4, "\x16\x161", "the c1"),
        ("the c", 4, "\x16a1", "the cat "),
        ("the c", 4, "\x16\t", "the c"),
        ("über", 0, "\x7f", "übe"),
        ("日本", 0, "\x7f", "日"),
        ("a🙂", 0, "\x7f", "a"),
        ("a🙂", 0, "\x08", "a"),
        ("", 0, "\x7f", ""),
        ("e\u0301", 0, "\x7f", "e"),
        ("the cat  ", 9, "\x17", "the "),
        ("the", 0, "\x17", ""),
        ("  ", 2, "\x17", ""),
        ("", 0, "\x17", ""),
        ("the cat", 4, "\x15", ""),
        ("the", 0, "\x00\x01\x1a\x1b\x1f\x85\ud800", "the"),
        ("the", 0, "\u00a0\u200d²٣", "the\u00a0\u200d²٣"),
    ],
)
def test_a_key_changes_the_line(text, start, keys, expected):
    typed = Typed(text, WORDS, start)
    for key in keys:
        typed = press(typed, key)
    assert typed == Typed(expected, WORDS, start)


@pytest.mark.parametrize("key", ["\t", "1", "9"])
def test_without_suggestions_nothing_is_accepted(key):
    assert press(Typed("the "), key).text == ("the " if key == "\t" else f"the {key}")


@pytest.mark.parametrize(("key", "done"), [("\r", ENTER), ("\n", ENTER), ("\x04", END), ("\x03", INTERRUPT)])
def test_a_key_ends_the_line(key, done):
    assert press(Typed("the 7", WORDS, 4, literal=True), key) == Typed("the 7", WORDS, 4, done=done)


@given(st.text(st.characters() | st.sampled_from("\t123 \x7f\x16\x17"), max_size=30))
def test_any_keys_give_a_line_of_printed_characters(keys):
    typed = Typed(words=WORDS)
    for key in keys:
        before, typed = typed, replace(press(typed, key), done="")
        assert len(typed.text) - len(before.text) in range(-len(before.text), 7)
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in typed.text)


@pytest.fixture(params=["word", *sorted(KINDS)])
def scorer(request, tmp_path, by_history):
    if request.param == "word":
        return by_history
    make, possible = KINDS[request.param]
    return Known(tmp_path, make(), possible).scorer


def test_suggestions_are_those_of_the_whole_text(scorer):
    suggestions, text = Suggestions(scorer, 4, exclude=["sat", "at"]), ""
    for key in "the cat \x7f\x7fc\x17a cat  sa\rη t\r\r a 🙂\x7fc":
        if key == ENTER:
            suggestions.end_line(text.rpartition("\n")[2])
            text += "\n"
        else:
            before, _, line = text.rpartition("\n")
            text = f"{before}{'' if before == text else _}{press(Typed(line), key).text}"
        line = text.rpartition("\n")[2]
        found, expected = suggestions.after(line), predict(scorer, text, 4, exclude=["sat", "at"])
        assert (found.begun, found.start) == (expected.begun, expected.start - len(text) + len(line))
        assert [item.word for item in found.words] == [item.word for item in expected.words], text
        probabilities = [item.probability for item in expected.words]
        assert [item.probability for item in found.words] == pytest.approx(probabilities, rel=1e-4)


def test_a_key_costs_one_step_and_a_new_word_two(by_history, monkeypatch):
    """Steps of the network, counted in tokens."""
    session, steps = by_history.session, []
    for name in ("run", "target_logprobs"):
        call = getattr(session, name)
        monkeypatch.setattr(session, name, lambda ids, *rest, call=call: steps.append(np.size(ids)) or call(ids, *rest))
    suggestions, line, costs = Suggestions(by_history, 3), "", []
    for key in f"the cat d{BACKSPACE * 3}t {BACKSPACE * 2}r s":
        line = press(Typed(line), key).text
        suggestions.after(line)
        costs.append(sum(steps))
        steps.clear()
    assert costs == [1, 1, 1, 2, 1, 1, 1, 2, *[1] * 9, 2, 1]  # a word that is typed again is known
