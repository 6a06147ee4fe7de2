"""A client's connection: what it may send before there is a request, and how long it may take for that."""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of a request's line and headers; nor may what frames a body be more than this besides a share of the body.
HEAD_BYTES = 65_536
_FRAMING_SHARE = 16
# For a client to take its answer, when it has not sent all of its request.
_LINGER_SECONDS = 5.0


class Connection(HttpToolsProtocol):
    """uvicorn's, which by itself waits for ever and takes headers of any size.

    Attributes:
        head_seconds: until a request's headers must have come, from the connection or its first byte on.
    """

    head_seconds = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._framing = 0
        # Between requests uvicorn's own timer runs.
        self._begun, self._ended = False, True
        self._timer: TimerHandle | None = None
        self._give_up_in(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if not self._begun and self._timer is None:
            self._give_up_in(self.head_seconds)
        self._framing += len(data)
        super().data_received(data)
        if self._framing > HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_headers_complete(self) -> None:
        self._begun, self._ended, self._framing = True, False, 0
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._framing = max(0, self._framing - (1 + _FRAMING_SHARE) * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._begun, self._ended, self._framing = False, True, 0
        self._wait_no_more()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._ended and not self.transport.is_closing():
            # What is still sent is thrown away, but not for ever.
            self._give_up_in(_LINGER_SECONDS)

    def _refuse(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            line = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(line.encode())
        self.transport.close()

    def _give_up_in(self, seconds: float) -> None:
        self._wait_no_more()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def within(seconds: float) -> type[Connection]:
    """The protocol for uvicorn, with as much time for headers."""
    return type("Connection", (Connection,), {"head_seconds": seconds})
