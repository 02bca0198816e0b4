"""Lines of text -> blocks of lines -> rows -> groups of rows that go through the network side by side.

A text shares one state: a line, a paragraph or a document. Complete texts in a block of lines are scored in groups of
similar length. A text that continues beyond the block is a separate row, and its state is carried to the next block:

    block 1     a a a .  b .  c c .  d d          rows   [a a a .] [b .] [c c .]    side by side
                                                         [d d                       alone, its state is kept
    block 2     d .  e e e e .                    rows    d .]                      alone, from that state
                                                         [e e e e .]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from keraslm.errors import KeraslmError
from keraslm.text.encoders import Ids

LINES_AHEAD = 4096  # largest number of lines in a block
_CHARACTERS = 1 << 20  # largest number of characters in a block, without its last item

Line = str | None  # None marks the end of a file
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """Consecutive lines of one text, as the ids of each line: all of them, or those in one block."""

    lines: list[Ids]
    continues: bool  # the text began in a previous block
    open: bool  # the text may continue in the next block

    def __len__(self) -> int:
        return sum(map(len, self.lines))


def blocks(items: Iterable[T], limit: int, growth: int, texts_of: Callable[[T], Sequence[str]]) -> Iterator[list[T]]:
    """Items in blocks of about `limit` texts; small ones at first, so that a slow stream is answered at once.

    If reading the items fails, the items before the failure are yielded first.
    """
    block: list[T] = []
    size, texts, characters = 1, 0, 0
    try:
        for item in items:
            block.append(item)
            own = texts_of(item)
            texts, characters = texts + len(own), characters + sum(map(len, own))
            if len(block) == size or texts >= limit or characters > _CHARACTERS:
                yield block
                block, size, texts, characters = [], min(size * growth, limit), 0, 0
    except KeraslmError:
        if block:
            yield block
        raise
    if block:
        yield block


def cut(block: Sequence[Ids | None], context: str, continues: bool) -> tuple[list[Row], bool]:
    """The rows of a block, in order, and whether the block ends inside a text; `continues` if it begins inside one.

    A paragraph ends with a line that is only its end symbol, a document with None, the end of a file.
    """
    rows: list[Row] = []
    lines: list[Ids] = []

    def close(is_open: bool) -> None:
        nonlocal lines, continues
        if lines:
            rows.append(Row(lines, continues, is_open))
        lines, continues = [], is_open and (continues or bool(lines))

    for ids in block:
        if ids is not None:
            lines.append(ids)
        if ids is None or context == "sentence" or (context == "paragraph" and len(ids) == 1):
            close(False)
    close(True)
    return rows, continues
