"""One HTTP request and its answer: the body that is read, the client that may leave, the answer that is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from keraslm.server.errors import ApiError, unavailable

T = TypeVar("T")
PING = 30.0  # seconds between comments in a stream, which keep connections open
JSON = "application/json"


class GoneError(Exception):
    """The client closed the connection."""


class Exchange:
    """A request that is being answered.

    Args:
        stopping: set when the server ends and cannot wait any longer.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, stopping: asyncio.Event):
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self._receive, self._send, self._stopping = receive, send, stopping
        self.started, self.size = False, 0

    async def body(self, limit: int) -> bytes:
        """The body; raises `ApiError` 413 if it is longer than `limit` bytes."""
        too_long = ApiError(413, f"The body has more than {limit:,} bytes, which is the limit.", code="body_too_large")
        length = self.headers.get("content-length", "")
        if length.isdigit() and (len(length) > 18 or int(length) > limit):
            raise too_long
        parts, size, more = [], 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise GoneError
            parts.append(message.get("body", b""))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > limit:
                raise too_long
        self.size = size
        return b"".join(parts)

    async def guarded(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine, which is cancelled when the client leaves or the server must end."""
        task = asyncio.ensure_future(work)
        gone, stopping = asyncio.ensure_future(self._left()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({task, gone, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise GoneError
            raise unavailable("The server is shutting down.", "shutting_down")
        finally:
            for each in (task, gone, stopping):
                each.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(self, status: int, body: bytes, kind: str = JSON, headers: dict[str, str] | None = None) -> None:
        found = {"content-type": kind, "content-length": str(len(body))} | (headers or {})
        await self._start(status, found)
        await self._send({"type": "http.response.body", "body": body})

    async def events(self, chunks: AsyncIterator[dict[str, Any]], headers: dict[str, str]) -> None:
        """Send server-sent events; an error before the first one is raised, and a later one is an event."""
        following = _next(chunks)
        try:
            while True:
                done, _ = await asyncio.wait({following}, timeout=PING)
                if not done:
                    await self._event(b": ping\n\n", headers)
                    continue
                try:
                    chunk = following.result()
                except StopAsyncIteration:
                    break
                await self._event(b"data: " + encoded(chunk) + b"\n\n", headers)
                following = _next(chunks)
            await self._event(b"data: [DONE]\n\n", headers)
            await self.end()
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError, Exception, StopAsyncIteration):
                await following
            await chunks.aclose()  # type: ignore[attr-defined]

    async def error_event(self, error: ApiError) -> None:
        """Send an error inside a stream, and end it."""
        await self._send_body(b"data: " + encoded(error.body()) + b"\n\n")
        await self.end()

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def _event(self, data: bytes, headers: dict[str, str]) -> None:
        if not self.started:
            await self._start(200, {"content-type": "text/event-stream", "cache-control": "no-store"} | headers)
        await self._send_body(data)

    async def _send_body(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        self.started = True
        found = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": found})


def _next(chunks: AsyncIterator[T]) -> asyncio.Future[T]:
    async def following() -> T:
        return await anext(chunks)

    return asyncio.ensure_future(following())


def encoded(value: Any) -> bytes:
    """JSON in ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


async def in_thread(work: Any, *arguments: Any, large: bool) -> Any:
    """Call a function; in a thread if it works on much data, so that other requests are answered meanwhile."""
    return await asyncio.to_thread(work, *arguments) if large else work(*arguments)
