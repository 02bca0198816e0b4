"""A program in a pseudo-terminal, and the screen that a person would see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from tests.support.program import START, environment

_PIECE = re.compile("\x1b\\[([0-9;?]*)([A-Za-z])|(.)", re.DOTALL)


class Screen:
    """The lines of a terminal of some width, as far as the escape sequences of these programs go."""

    def __init__(self, columns: int):
        self.columns, self.row, self.column = columns, 0, 0
        self.cells: list[list[str]] = [[]]

    @property
    def lines(self) -> list[str]:
        lines = ["".join(row).rstrip() for row in self.cells]
        return lines[: max((number for number, line in enumerate(lines, 1) if line), default=0)]

    def write(self, text: str) -> None:
        end = 0
        for found in _PIECE.finditer(text):
            assert found.start() == end, text
            end = found.end()
            number, kind, character = found.groups()
            if kind:
                self._move(kind, number)
            else:
                self._put(character)
        assert end == len(text), text

    def _move(self, kind: str, number: str) -> None:
        if kind == "A":
            self.row = max(0, self.row - int(number or 1))
        elif kind == "C":
            self.column = min(self.columns - 1, self.column + max(1, int(number or 1)))
        elif kind == "J" and not number:
            del self.cells[self.row][self.column :], self.cells[self.row + 1 :]
        elif kind == "K" and number in ("", "2"):
            del self.cells[self.row][0 if number else self.column :]
        else:
            assert (kind, number) in {("h", "?25"), ("l", "?25")} or kind == "m", (kind, number)

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\t":
            self.column = min(self.columns - 1, self.column // 8 * 8 + 8)
        elif character == "\n":
            self.row += 1
            self.cells += [[] for _ in range(len(self.cells), self.row + 1)]
        else:
            assert character.isprintable(), repr(character)
            if unicodedata.combining(character):
                self.cells[self.row][self.column - 1] += character
                return
            width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if self.column + width > self.columns:
                self.column = 0
                self._put("\n")
            row = self.cells[self.row]
            row += [" "] * (self.column - len(row))
            row[self.column : self.column + width] = [character, *[""] * (width - 1)]
            self.column += width


class PseudoTerminal:
    """A program whose standard streams are a terminal, except those given to `Popen`; `seen` is all it has written."""

    def __init__(self, arguments: Sequence[object], columns: int = 60, command: Sequence[str] = (), **streams: object):
        self.master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.screen, self.raw, self.seen = Screen(columns), b"", ""
        self.settings_before = self.settings()
        own = dict.fromkeys(("stdin", "stdout", "stderr"), self._slave) | streams
        line = [*(command or START), *map(str, arguments)]
        environ = environment() | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(line, **own, env=environ, start_new_session=True)  # type: ignore[call-overload]

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    def type(self, text: str | bytes) -> None:
        os.write(self.master, text if isinstance(text, bytes) else text.encode())

    def until(self, shown: Callable[[Screen], object], seconds: float = 60) -> None:
        """Read until the screen is as wanted."""
        end = time.monotonic() + seconds
        while not shown(self.screen):
            assert self._read(0.05) or time.monotonic() < end, self.screen.lines

    def wait(self) -> int:
        """The exit code of the program; all it has written is on the screen."""
        end = time.monotonic() + 60
        while self.process.poll() is None:
            self._read(0.05)
            assert time.monotonic() < end, self.screen.lines
        while self._read(0.05):
            pass
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        self.raw += os.read(self.master, 1 << 16)
        complete = self.raw.decode(errors="ignore")
        held = re.search("\x1b(\\[[0-9;?]*)?$", complete)  # a sequence whose end has not been read yet
        complete = complete[: held.start()] if held else complete
        self.seen += complete
        self.screen.write(complete)
        self.raw = self.raw[len(complete.encode()) :]
        return True

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in filter(None, (self.process.stdin, self.process.stdout)):
            pipe.close()
        os.close(self.master)
        os.close(self._slave)


@contextlib.contextmanager
def pseudo_terminal(*arguments: object, **options: object) -> Iterator[PseudoTerminal]:
    """Start the program in a terminal, and kill it at the end."""
    terminal = PseudoTerminal(arguments, **options)  # type: ignore[arg-type]
    try:
        yield terminal
    finally:
        terminal.close()
