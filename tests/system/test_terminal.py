"""Keys of a terminal, and the two lines on its screen, in a real pseudo-terminal."""

from __future__ import annotations

import os
import sys
import time

import pytest

from keraslm.errors import UsageError
from keraslm.system import terminal
from keraslm.system.terminal import KeyTerminal, key_terminal, printable
from tests.support.pseudo_terminal import Screen, pseudo_terminal

SHOW = """
import sys
from keraslm.system.terminal import key_terminal
with key_terminal() as terminal:
    text = ""
    terminal.show("> ", "  ready")
    for key in terminal.keys():
        if key == "\\x04":
            break
        if key == "!":
            1 / 0
        text += key
        terminal.show(f"> {text}", f"  {len(text)} characters, the last one is {ascii(text[-1])}")
print("after")
"""
COMMAND = [sys.executable, "-c", SHOW]


def last(character: str) -> str:
    return f"the last one is {character!a}"


def type_and_read(terminal, keys: str | bytes, character: str) -> list[str]:
    terminal.until(lambda screen: "ready" in screen.lines[-1] if screen.lines else False)
    terminal.type(keys)
    terminal.until(lambda screen: last(character) in "".join(screen.lines))
    return terminal.screen.lines


def test_keys_arrive_one_by_one_without_echo_and_the_settings_return():
    with pseudo_terminal(command=COMMAND) as terminal:
        assert type_and_read(terminal, "the ü日e\u0301🙂z", "z") == [
            "> the ü日e\u0301🙂z",
            f"  10 characters, {last('z')}",
        ]
        assert terminal.settings() != terminal.settings_before
        assert terminal.screen.column == len("> the ") + 1 + 2 + 1 + 2 + 1
        terminal.type("\x04")
        assert terminal.wait() == 0
        assert terminal.screen.lines == ["> the ü日e\u0301🙂z", "after"]
        assert terminal.settings() == terminal.settings_before


def test_a_character_may_arrive_in_pieces():
    with pseudo_terminal(command=COMMAND) as terminal:
        type_and_read(terminal, "a", "a")
        for byte in "日🙂".encode() + b"\xff\xfeq":
            terminal.type(bytes([byte]))
            time.sleep(0.02)
        terminal.until(lambda screen: last("q") in screen.lines[-1])
        assert terminal.screen.lines[0] == "> a日🙂q"


@pytest.mark.parametrize(
    "keys", ["a\x1b[Ab", "a\x1bOPb", "a\x1b[1;5Cb", "a\x1b[3~b", "a\x1bxb", "\x1b[D\x1b[Dab\x1b[200~"]
)
def test_arrows_and_function_keys_are_left_out(keys):
    with pseudo_terminal(command=COMMAND) as terminal:
        lines = type_and_read(terminal, f"{keys}z", "z")
        assert lines[0] == "> abz"


def test_a_sequence_may_arrive_in_pieces_and_escape_alone_is_left_out():
    with pseudo_terminal(command=COMMAND) as terminal:
        type_and_read(terminal, "a", "a")
        for part in ("\x1b[", "1;", "5C", "b"):
            terminal.type(part)
            time.sleep(0.02)
        terminal.type("\x1b")
        time.sleep(0.3)
        terminal.type("c")
        terminal.until(lambda screen: last("c") in screen.lines[-1])
        assert terminal.screen.lines[0] == "> abc"


def test_lines_are_cut_to_the_width_of_the_screen():
    with pseudo_terminal(command=COMMAND, columns=30) as terminal:
        text = "".join(map(chr, range(ord("a"), ord("z")))) * 3 + "日本z"
        terminal.until(lambda screen: len(screen.lines) == 2)
        terminal.type(text)
        terminal.until(lambda screen: screen.lines[0].endswith("z") and len(screen.lines) == 2)
        assert terminal.screen.lines == [text[-27:], "  78 characters, the last one"]
        terminal.type("\x04")
        assert terminal.wait() == 0 and terminal.screen.lines == [text[-27:], "after"]


def test_an_exception_restores_the_settings():
    with pseudo_terminal(command=COMMAND) as terminal:
        type_and_read(terminal, "ab", "b")
        terminal.type("!")
        assert terminal.wait() == 1
        assert terminal.settings() == terminal.settings_before
        assert terminal.screen.lines[:2] == ["> ab", "Traceback (most recent call last):"]
        assert terminal.screen.lines[-1] == "ZeroDivisionError: division by zero"


def test_keys_end_when_the_terminal_is_gone():
    master, slave = os.openpty()
    os.close(master)
    assert list(KeyTerminal(slave, sys.stdout).keys()) == []
    os.close(slave)


@pytest.mark.parametrize(
    ("typing", "term", "message"),
    [
        (False, "xterm", "`interactive` needs a terminal as standard input and standard output"),
        (True, "dumb", "`interactive` needs a terminal that can move its cursor, but TERM is dumb"),
    ],
)
def test_without_such_a_terminal_there_is_a_sentence(monkeypatch, typing, term, message):
    monkeypatch.setattr(terminal, "is_interactive", lambda: typing)
    monkeypatch.setenv("TERM", term)
    with pytest.raises(UsageError, match=message), key_terminal():
        pass


def test_a_system_without_termios_gets_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "termios", None)
    with pytest.raises(UsageError, match="`interactive` works in terminals of Linux and macOS only"), key_terminal():
        pass


def test_characters_that_would_control_the_screen_are_replaced():
    assert printable("a\x1b[2J\r\n\u202eb\ud800") == "a\ufffd[2J\ufffd\ufffd\ufffdb\ufffd"
    assert printable("日 é 🙂\u200d") == "日 é 🙂\u200d"


def test_the_screen_of_these_tests_shows_what_a_terminal_shows():
    screen = Screen(6)
    screen.write("ab\r\ncd\x1b[A\r\x1b[1Cxy")
    assert (screen.lines, screen.row, screen.column) == (["axy", "cd"], 0, 3)
    screen.write("\x1b[J\r日本語")
    assert screen.lines == ["日本語"]
    screen.write("q\r\x1b[Kz")
    assert screen.lines == ["日本語", "z"]
