"""Line ends, white space, words, and where very long lines are cut: the rules that training and scoring share."""

from __future__ import annotations

import re
from collections.abc import Iterator

from keraslm.errors import TextError, shown

PIECE = 1 << 16  # bytes of a line that a tokenizer sees at once

# Unicode's White_Space, as the `tokenizers` library has it; Python's own `split` also cuts at U+001C to U+001F.
_SEPARATORS = "\x1c\x1d\x1e\x1f"
_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WORD = re.compile(f"[^{_SPACE}]+")

_SURROGATE = re.compile("[\ud800-\udfff]")

_LAST_SPACE = re.compile(rb".*[^\t-\r ](?=[\t-\r ])", re.DOTALL)


def one_line(text: str, where: str = "") -> str:
    """A line without its line end: one LF, CR LF or CR at the end is dropped; a `TextError` if there is one inside.

    `where` is the place of the text, for the message.

    Example:
        >>> one_line("the cat\\r\\n")
        'the cat'
    """
    if "\n" not in text and "\r" not in text:
        return text
    line = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text.removesuffix("\r")
    if found := re.search("[\r\n]", line):
        raise TextError(
            f"{where or 'text'}: a line end inside a line, at character {found.start() + 1} of {len(text)}: "
            f"{shown(text)}. Give each line on its own."
        )
    return line


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which are no part of UTF-8."""
    return _SURROGATE.sub("\ufffd", text)


def split_words(text: str) -> list[str]:
    """The words of a text, which white space separates: `['the', 'cat']` for `the  cat`."""
    return _WORD.findall(text) if any(character in text for character in _SEPARATORS) else text.split()


def count_words(text: str) -> int:
    """Number of words of a text; a long text needs no more memory than a short one."""
    return len(split_words(text)) if len(text) <= 16 * PIECE else sum(1 for _ in _WORD.finditer(text))


def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each word in the characters of a text: `[(0, 3), (5, 8)]` for `the  cat`."""
    return [match.span() for match in _WORD.finditer(text)]


def cut(data: bytes, limit: int = PIECE) -> int:
    """Where to cut a line of more than `limit` bytes of UTF-8: before its last white space within the limit.

    No token of a word or subword tokenizer crosses that place. If the second half of the limit has no white space, the
    text is cut at the limit, between two characters.
    """
    last = _LAST_SPACE.match(data, limit // 2, limit)
    if last:
        return last.end()
    at = limit
    while at > limit - 4 and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


def pieces(line: str, limit: int = PIECE) -> Iterator[str]:
    """A line in pieces of at most `limit` bytes; nearly every line is one piece."""
    if len(line) <= limit // 4:  # a character has at most 4 bytes
        yield line
        return
    data = line.encode("utf-8", "surrogatepass")
    start = 0
    while len(data) - start > limit:
        end = start + cut(data[start : start + limit + 1], limit)
        yield data[start:end].decode("utf-8", "surrogatepass")
        start = end
    yield data[start:].decode("utf-8", "surrogatepass")
