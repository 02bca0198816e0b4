"""The commands on the pages: the blocks of code that show some, and the calls of keraslm in them."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n(?:\n(?= {4}))?)+", re.MULTILINE)
SHELL = ("console", "sh", "bash")
_OPERATORS = "();<>|&"
_HIDDEN = {ord(each): 0xE000 + place for place, each in enumerate(_OPERATORS)}  # in quotes, they are no operators
_SHOWN = {private: each for each, private in _HIDDEN.items()}


def blocks(text: str) -> list[str]:
    """The blocks of code of a page, without their indentation: fenced ones of a shell, and indented ones."""
    fenced = [re.sub(rf"^{m[1]}", "", m[3], flags=re.MULTILINE) for m in _FENCE.finditer(text) if m[2] in SHELL]
    rest = re.sub(r"^===.*$", "", _FENCE.sub("", text), flags=re.MULTILINE)
    return fenced + [re.sub(r"^ {4}", "", m[0], flags=re.MULTILINE) for m in _INDENTED.finditer(rest)]


def sessions(text: str) -> list[str]:
    """The blocks that show commands with their output: those with a line that begins with `$ `."""
    return [block for block in blocks(text) if re.search(r"^\$ ", block, flags=re.MULTILINE)]


def digest(text: str) -> str:
    """A SHA-256 of all commands and outputs of a page."""
    return hashlib.sha256("\n".join(sessions(text)).encode()).hexdigest()


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of each call of keraslm on a page.

    Example:
        >>> list(calls("```console\\n$ cat a | keraslm score m.onnx > b   # words\\n```"))
        [['score', 'm.onnx']]
    """
    for block in blocks(text):
        session = re.search(r"^\$ ", block, flags=re.MULTILINE)
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if session and not line.startswith("$ "):
                continue
            if "keraslm " in line:
                yield from _calls_of(line.removeprefix("$ "))


def _calls_of(line: str) -> Iterator[list[str]]:
    quoted = re.sub(r"'[^']*'|\"[^\"]*\"", lambda found: found[0].translate(_HIDDEN), line)
    words = shlex.shlex(quoted, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    call: list[str] | None = None
    for word in [*words, ";"]:
        if word == "keraslm" and call is None:
            call = []
        elif set(word) <= set(_OPERATORS):
            if call:
                yield call
            call = None
        elif call is not None:
            call.append(word.translate(_SHOWN))
