"""Lines of text -> windows of lines -> rows -> groups of rows that go through the network side by side.

A text is what shares one state: a line, a paragraph or a whole document. Within a window of lines, whole texts are
sorted by length and scored in groups of like length; a text that reaches beyond the window is a row of its own, whose
state is carried on:

    window 1    a a a .  b .  c c .  d d          rows   [a a a .] [b .] [c c .]    side by side
                                                         [d d                       alone, its state is kept
    window 2    d .  e e e e .                    rows    d .]                      alone, from that state
                                                         [e e e e .]

Only plain lists here: nothing knows a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from keraslm.errors import KeraslmError
from keraslm.text.encoders import Ids

WINDOW = 4096  # lines that are read ahead
_CHARACTERS = 1 << 20  # that a window holds at most, but for its last line

Line = str | None  # None stands where a file ends


@dataclass(frozen=True)
class Row:
    """Lines that follow each other with one state, or the part of such lines that a window holds.

    Attributes:
        lines: ids of each line, its end symbol last.
        continues: whether the text began in an earlier window.
        open: whether the text may go on in the next window.
    """

    lines: list[Ids]
    continues: bool
    open: bool

    def __len__(self) -> int:
        """Number of tokens."""
        return sum(map(len, self.lines))


def windows(lines: Iterable[Line], limit: int = WINDOW) -> Iterator[list[Line]]:
    """Lines in windows: small ones at first, so that a slow stream shows its first rows at once.

    When the source of the lines fails, the lines before are given out first, and then its error.

    Args:
        lines: without line ends, None where a file ends.
        limit: of lines in a window.

    Example:
        >>> [len(window) for window in windows(["a"] * 9, limit=4)]
        [1, 2, 4, 2]
    """
    window: list[Line] = []
    size, characters = 1, 0
    try:
        for line in lines:
            window.append(line)
            characters += len(line or "")
            if len(window) == size or characters > _CHARACTERS:
                yield window
                window, size, characters = [], min(2 * size, limit), 0
    except KeraslmError:
        if window:
            yield window
        raise
    if window:
        yield window


def cut(window: Sequence[Ids | None], context: str, continues: bool) -> tuple[list[Row], bool]:
    """The rows of a window.

    Args:
        window: ids of each line, None where a file ends.
        context: `"sentence"`, `"paragraph"` (ends with a line that has no token but its end symbol) or `"document"`
            (ends with a file).
        continues: whether the window begins inside a text.

    Returns:
        the rows, in order, and whether the window ends inside a text.

    Example:
        >>> line, blank = np.array([5, 0]), np.array([0])
        >>> rows, inside = cut([line, blank, line], "paragraph", continues=False)
        >>> [len(row) for row in rows], inside
        ([3, 2], True)
    """
    rows: list[Row] = []
    lines: list[Ids] = []

    def close(is_open: bool) -> None:
        nonlocal lines, continues
        if lines:
            rows.append(Row(lines, continues, is_open))
        lines, continues = [], is_open and (continues or bool(lines))

    for ids in window:
        if ids is not None:
            lines.append(ids)
        if ids is None or context == "sentence" or (context == "paragraph" and len(ids) == 1):
            close(False)
    close(True)
    return rows, continues


def groups(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Rows of similar length together, the longest of a group first.

    Args:
        rows: whole texts.
        size: largest number of rows in a group.
    """
    ordered = sorted(rows, key=len, reverse=True)
    yield from (ordered[start : start + size] for start in range(0, len(ordered), size))
