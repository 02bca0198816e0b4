"""uvicorn's protocol with three additions: errors as JSON, and a limit on the time and the size of a request's head."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keraslm.server.errors import ApiError
from keraslm.server.exchange import encoded

HEAD_SECONDS = 30.0
HEAD_BYTES = 1 << 16


class Protocol(HttpToolsProtocol):
    """A connection. One that sends no complete head of a request in time is closed."""

    _timer: asyncio.TimerHandle | None = None
    _bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is not None:
            self._bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._bytes > HEAD_BYTES:
            self._refuse(431, f"The head of the request has more than {HEAD_BYTES:,} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._have_head()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "The request is not valid HTTP.")

    def _expect_head(self) -> None:
        if self._timer is None:
            self._timer, self._bytes = self.loop.call_later(HEAD_SECONDS, self.transport.close), 0

    def _have_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, message: str) -> None:
        body = encoded(ApiError(status, message, code="invalid_http").body())
        head = f"HTTP/1.1 {status} Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()
