"""uvicorn's protocol with additions: errors as JSON, and limits on what a connection may hold without progress."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keraslm.server.errors import ApiError
from keraslm.server.exchange import encoded

HEAD_SECONDS = 30.0
HEAD_BYTES = 1 << 16  # of a head, and of anything else between parts of bodies: trailers, sizes of chunks, blank lines
STALL_SECONDS = 60.0


class Protocol(HttpToolsProtocol):
    """A connection. It is closed if no complete head of a request comes in time, at first or after an answer.

    It is aborted if the client reads nothing for `STALL_SECONDS` while much is to be sent.
    """

    _timer: asyncio.TimerHandle | None = None
    _bytes = 0  # that are not the body, since the request or the last part of its body began
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        self._cancel_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        super().data_received(data)
        if self._bytes > HEAD_BYTES:
            self._refuse(431, f"The head or the trailer of the request has more than {HEAD_BYTES:,} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._have_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:  # no further request has come
            self._expect_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        self._cancel_stall()
        super().resume_writing()

    def _watch(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(STALL_SECONDS, self._check_stall, left)

    def _check_stall(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._watch()

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "The request is not valid HTTP.")

    def _expect_head(self) -> None:
        self._have_head()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _have_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, message: str) -> None:
        if self.cycle and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()  # an error would be read as a part of the answer that is being sent
            return
        body = encoded(ApiError(status, message, code="invalid_http").body())
        head = f"HTTP/1.1 {status} Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()
