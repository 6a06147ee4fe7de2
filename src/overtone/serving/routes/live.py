"""`WebSocket /v1/live`: sound in as it is spoken, enhanced sound out 25 ms later.

A hello, frames of interleaved samples both ways, an end:

    -> {"type": "hello", "rate": 16000, "channels": 1, "format": "f32le", "mode": "extend", "cutoff_hz": 8000}
    <- {"type": "ready", "rate": 48000, "channels": 1, "format": "f32le", "latency_ms": 61.9, ...}
    -> frames            <- frames
    -> {"type": "end"}   <- the rest, {"type": "done", "samples": 480000}
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import Field, ValidationError

from overtone.errors import OvertoneError
from overtone.serving import security
from overtone.serving.engine import Engine, client_of, engine_of
from overtone.serving.errors import Refused, sentence_of
from overtone.serving.live import LiveSettings, LiveStream

log = logging.getLogger("overtone.serving")
router = APIRouter()
# Codes of RFC 6455 and its registry; of a refusal, by what would be its status.
_DONE, _REFUSED, _FAILED, _FULL = 1000, 1008, 1011, 1013
_CODES = {429: _FULL, 503: _FULL}
# Received and not yet computed, at most; of a twentieth of a second each, or what a client sends at a time.
_PIECES = 20


class Hello(LiveSettings):
    """A live client's first message."""

    type: Literal["hello"]
    model: str | None = None
    key: str | None = Field(default=None, repr=False)


@router.websocket(security.LIVE)
async def live(socket: WebSocket) -> None:
    """One stream."""
    engine = engine_of(socket)
    await socket.accept()
    try:
        # Who does not show the key takes no place.
        hello = await _hello(socket, engine)
        with engine.limits.stream(client_of(socket)):
            stream = await _begun(socket, engine, hello)
            await _streamed(socket, engine, stream)
            await _send(socket, engine, {"type": "done", "samples": stream.sent})
            await socket.close(_DONE)
    except WebSocketDisconnect:
        return
    except Refused as error:
        await _end(socket, _CODES.get(error.status_code, _REFUSED), error.detail)
    except OvertoneError as error:
        await _end(socket, _REFUSED, sentence_of(error))
    except Exception:
        log.exception("a live stream failed")
        await _end(socket, _FAILED, "the server failed; its log says how")


async def _end(socket: WebSocket, code: int, sentence: str) -> None:
    try:
        await socket.send_json({"type": "error", "detail": sentence})
        await socket.close(code)
    except (RuntimeError, WebSocketDisconnect):
        # The client is gone already.
        return


async def _send(socket: WebSocket, engine: Engine, message: dict[str, Any] | bytes) -> None:
    sending = socket.send_bytes(message) if isinstance(message, bytes) else socket.send_json(message)
    seconds = engine.options.write_seconds
    try:
        async with asyncio.timeout(seconds):
            await sending
    except TimeoutError:
        raise Refused(408, f"nothing was taken for {seconds:g} s") from None


async def _received(socket: WebSocket, seconds: float) -> str | bytes:
    """The client's next message."""
    try:
        async with asyncio.timeout(seconds):
            message = await socket.receive()
    except TimeoutError:
        raise Refused(408, f"nothing was sent for {seconds:g} s") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    found: str | bytes | None = message.get("bytes")
    return found if found is not None else str(message.get("text") or "")


async def _hello(socket: WebSocket, engine: Engine) -> Hello:
    text = await _received(socket, engine.options.live_idle)
    try:
        hello = Hello.model_validate_json(text)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'hello'}: {one['msg']}" for one in error.errors())
        raise Refused(422, found) from None
    key = engine.options.key
    if key is not None and not (socket.state.key_shown or security.same(hello.key or "", key)):
        raise Refused(401, "expected the server's key, as a header of the request or as key in the hello")
    return hello


async def _begun(socket: WebSocket, engine: Engine, hello: Hello) -> LiveStream:
    loaded = await engine.models.get(hello.model)
    stream = LiveStream(loaded.upsampler, hello)
    await _send(socket, engine, {"type": "ready", "model": loaded.kind, "version": loaded.version, **stream.facts})
    return stream


async def _streamed(socket: WebSocket, engine: Engine, stream: LiveStream) -> None:
    """Take frames and give frames until the client's end."""
    arrived: asyncio.Queue[bytes] = asyncio.Queue(_PIECES)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_read(socket, engine, stream, arrived))
            await _compute(socket, engine, stream, arrived)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _read(socket: WebSocket, engine: Engine, stream: LiveStream, arrived: asyncio.Queue[bytes]) -> None:
    """Put frames into the queue, and nothing at the end.

    While the queue is full no more is read: the connection's own buffers then fill, and so the client is held.
    """
    while not _is_end(message := await _received(socket, engine.options.live_idle)):
        if not isinstance(message, bytes):
            raise Refused(422, 'expected frames of samples, or {"type": "end"}')
        if len(message) % stream.frame_bytes:
            raise Refused(422, f"expected whole frames of {stream.frame_bytes} bytes, got {len(message)} bytes")
        for piece in stream.pieces(message):
            await arrived.put(piece)
    await arrived.put(b"")


async def _compute(socket: WebSocket, engine: Engine, stream: LiveStream, arrived: asyncio.Queue[bytes]) -> None:
    """Enhance the frames of the queue as they come, and not far ahead of time."""
    begun, mode = time.monotonic(), str(stream.facts["mode"])
    while data := await arrived.get():
        # What has come meanwhile takes far less together than piece by piece. The last one may be the end.
        while arrived.qsize() > 1:
            data += arrived.get_nowait()
        if out := await engine.compute_live(partial(stream.push, data)):
            await _send(socket, engine, out)
        engine.metrics.audio.labels(security.LIVE, mode).inc(len(data) / stream.bytes_a_second)
        early = stream.seconds - engine.options.live_ahead - (time.monotonic() - begun)
        if early > 0:
            await asyncio.sleep(early)
    if out := await engine.compute_live(stream.finish):
        await _send(socket, engine, out)


def _is_end(message: str | bytes) -> bool:
    try:
        found = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("type") == "end"
