"""Texts of any length through the workers, piece by piece: prompts that are read, and tokens that are drawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keraslm.server.batching import Batcher
from keraslm.server.rows import Draw, Position, Read, Seen
from keraslm.server.samples import join
from keraslm.text.context import cut_contexts
from keraslm.text.encoders import Ids

PIECE = 4096  # tokens of a row that travel to a worker at a time
ROWS = 256  # sentences or paragraphs of a text that are read side by side


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the tokens of a text; `top` and `full` as in `Read`."""

    top: int | None = None
    full: bool = False
    carried: bool = False


async def read_text(batcher: Batcher, eos_id: int, context: str, ids: Ids, wanted: Wanted) -> Seen:
    """Read a text from its beginning; the position after it is a new text if a sentence has just ended."""
    *complete, last = cut_contexts(ids, eos_id, eos_id, context)
    reset = replace(wanted, carried=False)
    parts: list[Seen] = []
    for first in range(0, len(complete), ROWS):
        parts += await gather([_read(batcher, eos_id, part, reset) for part in complete[first : first + ROWS]])
    if len(last):
        parts.append(await _read(batcher, eos_id, last, wanted))
    found = join(parts)
    if not len(last):
        before = int(ids[-2]) if len(ids) > 1 else eos_id
        found = replace(found, after=Position(eos_id, before))
    return found


async def gather(rows: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results of coroutines; if one fails, the others are cancelled."""
    if len(rows) <= 1:
        return [await row for row in rows]
    tasks = [asyncio.ensure_future(row) for row in rows]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _read(batcher: Batcher, eos_id: int, ids: Ids, wanted: Wanted) -> Seen:
    position, parts, start = Position(eos_id, eos_id), [], 0
    while start < len(ids):
        own = ids[start : start + PIECE]
        carried = wanted.carried or start + len(own) < len(ids)
        part = await batcher.compute(Read(position, own, wanted.top, wanted.full, carried))
        if part.after:
            position = part.after
        parts.append(replace(part, after=None))
        start += len(part)
    return replace(join(parts), after=position)


async def drawn(batcher: Batcher, row: Draw) -> AsyncIterator[Seen]:
    """The tokens of a row, as they are drawn."""
    done = 0
    while done < row.count:
        found = await batcher.compute(replace(row, drawn=done, count=row.count - done))
        assert found.after
        row, done = replace(row, position=found.after), done + len(found)
        yield found
