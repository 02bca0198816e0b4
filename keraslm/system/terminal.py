"""A terminal that reports each key, and shows a line with a second line below it. Linux and macOS."""

from __future__ import annotations

import codecs
import importlib
import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from keraslm.errors import UsageError

_SEQUENCE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|O.|[^\\[O])", re.DOTALL)  # of an arrow or function key (ECMA-48)
_BEGUN = re.compile("\x1b(?:\\[[0-?]*[ -/]*|O)?$")
_PAUSE = 0.05  # seconds in which a terminal sends the rest of a sequence
_WAKE = 0.5  # seconds between two looks at signals
_JOINERS = "\u200c\u200d"  # they print nothing, but change the characters beside them


def is_interactive() -> bool:
    """Whether a person types at a terminal and reads on one."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def key_terminal() -> Iterator[KeyTerminal]:
    """The terminal of standard input and output, without line editing; its settings are restored at the end.

    Raises:
        UsageError: there is no terminal, or one that cannot do this.
    """
    try:
        termios: Any = importlib.import_module("termios")
    except ImportError:
        raise UsageError("`interactive` works in terminals of Linux and macOS only.") from None
    if not is_interactive():
        raise UsageError("`interactive` needs a terminal as standard input and standard output.")
    if os.environ.get("TERM") == "dumb":
        raise UsageError("`interactive` needs a terminal that can move its cursor, but TERM is dumb.")
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    changed = [*before[:6], [*before[6]]]
    changed[0] &= ~termios.IXON
    changed[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    terminal = KeyTerminal(source, sys.stdout)
    try:
        termios.tcsetattr(source, termios.TCSADRAIN, changed)
        yield terminal
    finally:
        with suppress(OSError, termios.error):  # the terminal is gone
            termios.tcsetattr(source, termios.TCSADRAIN, before)
            terminal.leave()


class KeyTerminal:
    """See `key_terminal`."""

    def __init__(self, source: int, out: TextIO):
        self._source, self._out = source, out
        self._shown = False  # whether the cursor is in a line with another one below

    def keys(self) -> Iterator[str]:
        """Each key as a character, until the terminal is closed; arrows and function keys are left out."""
        decoder, rest = codecs.getincrementaldecoder("utf-8")("ignore"), ""
        while data := self._read():
            text = _SEQUENCE.sub("", rest + decoder.decode(data))
            begun = _BEGUN.search(text)
            rest = begun[0] if begun and select.select([self._source], [], [], _PAUSE)[0] else ""
            yield from text[: begun.start()] if begun else text

    def show(self, line: str, below: str) -> None:
        """Replace both lines. Of a long line its end is shown, of the one below its beginning."""
        room = _columns(self._out) - 1
        line = next(line[start:] for start in range(len(line) + 1) if _width(line[start:]) <= room)
        below = next(below[:end] for end in range(len(below), -1, -1) if _width(below[:end]) <= room)
        behind = f"\x1b[{_width(line)}C" if line else ""
        # To the start of the line, and erase all from there; write both; up again, and behind the first one.
        self._out.write(f"\r\x1b[J{line}\r\n{below}\x1b[A\r{behind}")
        self._out.flush()
        self._shown = True

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self._out.write(f"{line}\r\n")

    def leave(self) -> None:
        """Keep the line, remove the one below, and move to a new line."""
        if self._shown:
            self._out.write("\x1b[J\r\n")
            self._out.flush()
        self._shown = False

    def _read(self) -> bytes:
        try:
            # A signal that arrives just before a call that blocks would be noticed at the next key only.
            while not select.select([self._source], [], [], _WAKE)[0]:
                pass
            return os.read(self._source, 4096)
        except OSError:  # the terminal is gone
            return b""


def printable(text: str) -> str:
    """The text with U+FFFD for characters that would move the cursor or change the direction of writing."""
    return "".join(c if c.isprintable() or c in _JOINERS else "\ufffd" for c in text)


def _columns(out: TextIO) -> int:
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except OSError:
        return 80


def _width(text: str) -> int:
    """Columns of a text: 2 for each wide character of East Asia, 0 for a combining one."""
    from rich.cells import cell_len

    return cell_len(text)
