"""Around every request: an id, counters, a line of the log, and an answer that is sent at the client's own pace."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overtone.serving.errors import sentence_of
from overtone.serving.logs import request_id
from overtone.serving.metrics import Metrics
from overtone.serving.options import Options

log = logging.getLogger("overtone.access")
# A client that takes this much within the time for it is slow, and gets its whole answer.
_CHUNK = 65_536
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})
# An id that a proxy gave the request already.
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Observed:
    """ASGI middleware around the whole application.

    What fails after an answer has begun breaks the connection off: no client can take what it has for the whole answer.
    """

    def __init__(self, app: ASGIApp, options: Options, metrics: Metrics) -> None:
        self._app, self._options, self._metrics = app, options, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        token = request_id.set(given if _ID.fullmatch(given) else uuid.uuid4().hex[:16])
        answer, begun = _Answer(send, self._options.write_seconds, request_id.get()), time.perf_counter()
        try:
            await self._app(scope, receive, answer if scope["type"] == "http" else send)
        except Exception as error:
            if not answer.begun:
                raise
            self._metrics.broken.inc()
            # Starlette's own error about an answer that has begun has ours as its cause.
            log.error("an answer was broken off: %s", sentence_of(error.__cause__ or error))
        finally:
            if scope["type"] == "http":
                self._count(scope, answer, time.perf_counter() - begun)
            request_id.reset(token)

    def _count(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.answered(route, method, answer.status, seconds)
        if self._options.access_log:
            # Neither the query nor the headers, which may hold secrets.
            facts = {"route": route, "method": method, "status": answer.status, "ms": round(1000 * seconds, 1)}
            facts |= {"client": (scope.get("client") or [""])[0], "bytes": answer.bytes}
            log.info("%s %s %d, %.0f ms", method, scope["path"], answer.status, 1000 * seconds, extra={"facts": facts})


class _Answer:
    """An ASGI `send` in small chunks, each of which the client must take in time."""

    def __init__(self, send: Send, seconds: float, id: str) -> None:
        self._send, self._seconds, self._id = send, seconds, id
        self.status, self.bytes, self.begun = 500, 0, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.begun = message["status"], True
            await self._sent({**message, "headers": [*message["headers"], (b"x-request-id", self._id.encode())]})
            return
        body: bytes = message.get("body", b"")
        self.bytes += len(body)
        for start in range(0, max(len(body), 1), _CHUNK):
            more = message.get("more_body", False) or start + _CHUNK < len(body)
            await self._sent({**message, "body": body[start : start + _CHUNK], "more_body": more})

    async def _sent(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(message)
        except TimeoutError:
            raise RuntimeError(f"its client took less than {_CHUNK} bytes in {self._seconds:g} s") from None
