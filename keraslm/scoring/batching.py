"""Lines of text -> blocks of lines -> rows -> groups of rows that go through the network side by side.

A text shares one state: a sentence, a paragraph or a document. Complete texts in a block of lines are scored in groups
of similar length. A text that continues beyond the block is a separate row, and its state is carried to the next block:

    block 1     a a a .  b .  c c .  d d          rows   [a a a .] [b .] [c c .]    side by side
                                                         [d d                       alone, its state is kept
    block 2     d .  e e e e .                    rows    d .]                      alone, from that state
                                                         [e e e e .]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import KeraslmError
from keraslm.text.context import cut_contexts
from keraslm.text.encoders import Ids

LINES_AHEAD = 4096  # largest number of lines in a block
_CHARACTERS = 1 << 20  # largest number of characters in a block, without its last item

Line = str | None  # None marks the end of a file
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """Consecutive tokens of one text: all of them, or those in one block."""

    ids: Ids
    continues: bool  # the text began in a previous block
    open: bool  # the text may continue in the next block

    def __len__(self) -> int:
        return len(self.ids)


def blocks(
    items: Iterable[T], limit: int, growth: int, texts_of: Callable[[T], Sequence[str]], size: int = 1
) -> Iterator[list[T]]:
    """Items in blocks of about `limit` texts; small ones at first, so that a slow stream is answered at once.

    The first block has `size` items, and each one has `growth` times as many as the previous one. If reading the items
    fails, the items before the failure are yielded first.
    """
    block: list[T] = []
    texts, characters = 0, 0
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


def cut(block: Sequence[Ids | None], context: str, eos_id: int, before: int | None) -> tuple[list[Row], bool]:
    """The rows of a block, in order, and whether the block ends inside a text.

    A text ends where its sentence or paragraph ends, as in training, and at None, the end of a file. `before` is the
    last token of the text that the block continues, or None.
    """
    rows: list[Row] = []
    lines: list[Ids] = []

    def close(is_open: bool) -> bool:
        """Make rows of the lines of a file; returns whether the last one is open."""
        ids = np.concatenate([np.zeros(0, np.int32), *lines])
        *complete, last = cut_contexts(ids, eos_id if before is None else before, eos_id, context)
        parts = [(part, False) for part in complete] + [(last, is_open)] * (len(last) > 0)
        for number, (part, unfinished) in enumerate(parts):
            rows.append(Row(part, before is not None and number == 0, unfinished))
        lines.clear()
        return is_open and len(last) > 0

    for ids in block:
        if ids is not None:
            lines.append(ids)
            continue
        close(False)
        before = None
    return rows, close(True)


def side_by_side(rows: Sequence[Ids], lasts: Sequence[int], eos_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and targets of texts, the longest first, filled with end symbols: int64 `(rows, tokens)`.

    `lasts` holds the token before each text, from which its first one is predicted.
    """
    targets = np.full((len(rows), len(rows[0])), eos_id, np.int64)
    for row, ids in zip(targets, rows, strict=True):
        row[: len(ids)] = ids
    first = np.array(lasts, np.int64)[:, None]
    return np.concatenate([first, targets[:, :-1]], axis=1), targets
