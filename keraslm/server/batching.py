"""Rows that wait, in pieces for the workers.

When a worker is free, it gets the row that has waited longest and those that can share a piece with it. A row comes
back after a piece of it, and its owner sends the rest. So every row advances, however long its text is.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

from keraslm.server.rows import Row
from keraslm.system.processes import Workers

PIECES = 2  # per worker: the next piece is ready when one is done


@dataclass(frozen=True)
class _Entry:
    """A row that waits; `number` counts all rows in the order in which they came."""

    number: int
    row: Row
    future: asyncio.Future[Any]


class Batcher:
    """Collects rows into pieces of at most `rows` rows for `workers`, which are `count` processes."""

    def __init__(self, workers: Workers, count: int, rows: int):
        self._workers, self._free, self._rows = workers, PIECES * count, rows
        self._waiting: dict[Any, deque[_Entry]] = {}  # by the kind of rows
        self._numbers = itertools.count()
        self._loop = asyncio.get_running_loop()
        self._planned = False

    @property
    def waiting(self) -> int:
        """Number of rows that wait for a worker."""
        return sum(map(len, self._waiting.values()))

    @property
    def deaths(self) -> int:
        """Number of workers that died and were replaced."""
        return self._workers.deaths

    async def compute(self, row: Row) -> Any:
        """Compute a piece of a row. If the caller is cancelled while the row waits, it is not computed."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.setdefault(row.kind, deque()).append(_Entry(next(self._numbers), row, future))
        self._plan()
        return await future

    def _plan(self) -> None:
        # Later in this turn of the loop, when all rows that are ready have arrived.
        if not self._planned and self._free and self._waiting:
            self._planned = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._planned = False
        while self._free and (piece := self._take()):
            self._free -= 1
            answer = self._workers.submit([entry.row for entry in piece])
            futures = [entry.future for entry in piece]
            asyncio.wrap_future(answer).add_done_callback(partial(self._deliver, futures))

    def _take(self) -> list[_Entry]:
        """The row that has waited longest and those of its kind; rows whose callers are gone are dropped."""
        for kind, entries in list(self._waiting.items()):
            while entries and entries[0].future.done():
                entries.popleft()
            if not entries:
                del self._waiting[kind]
        if not self._waiting:
            return []
        kind = min(self._waiting, key=lambda kind: self._waiting[kind][0].number)
        piece: list[_Entry] = []
        entries = self._waiting[kind]
        while entries and len(piece) < self._rows:
            entry = entries.popleft()
            if not entry.future.done():
                piece.append(entry)
        return piece

    def _deliver(self, futures: list[asyncio.Future[Any]], done: asyncio.Future[Any]) -> None:
        self._free += 1
        error = None if done.cancelled() else done.exception()
        for number, future in enumerate(futures):
            if future.done():
                continue
            if done.cancelled():
                future.cancel()
            elif error:
                future.set_exception(error)
            else:
                future.set_result(done.result()[number])
        self._plan()
