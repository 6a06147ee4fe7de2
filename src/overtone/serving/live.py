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
from typing import Annotated, Any, Literal

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from overtone.enhance.profile import Profile
from overtone.errors import OvertoneError
from overtone.serving import door, service
from overtone.serving.refusal import Refused
from overtone.serving.service import Service
from overtone.serving.session import Session

log = logging.getLogger("overtone.serving")
router = APIRouter()
# Codes of RFC 6455 and its registry.
_DONE, _MALFORMED, _REFUSED, _FAILED, _FULL = 1000, 1003, 1008, 1011, 1013


class Hello(BaseModel):
    """A live client's first message; `cutoff_hz` must be given for rates of 44.1 kHz and more.

    `profile` is the content of a file that `overtone profile` wrote, `brightness` in dB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["hello"]
    rate: Annotated[int, Field(ge=8_000, le=192_000)]
    channels: Annotated[int, Field(ge=1, le=8)] = 1
    format: Literal["f32le", "s16le"] = "f32le"
    mode: Literal["auto", "extend", "restore"] = "auto"
    cutoff_hz: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    profile: dict[str, Any] | None = None
    brightness: Annotated[float, Field(ge=-6, le=6, allow_inf_nan=False)] = 0.0
    model: str | None = None
    key: str | None = Field(default=None, repr=False)


class _Over(Exception):
    """The session ends with an error that the client is told."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@router.websocket(door.LIVE)
async def live(socket: WebSocket) -> None:
    """One session."""
    served = service.of(socket)
    await socket.accept()
    try:
        with served.room.listening(service.client_of(socket)), served.meters.live.track_inprogress():
            session = await _greeted(socket, served)
            await _streamed(socket, served, session)
            await _said(socket, served, {"type": "done", "samples": session.sent})
            await socket.close(_DONE)
    except WebSocketDisconnect:
        return
    except _Over as error:
        await _told(socket, error.code, str(error))
    except Refused as error:
        await _told(socket, _FULL, error.detail)
    except OvertoneError as error:
        await _told(socket, _REFUSED, " ".join(str(error).split()))
    except Exception:
        log.exception("a live session failed")
        await _told(socket, _FAILED, "the server failed; its log says how")


async def _told(socket: WebSocket, code: int, sentence: str) -> None:
    try:
        await socket.send_json({"type": "error", "detail": sentence})
        await socket.close(code)
    except (RuntimeError, WebSocketDisconnect):
        # The client is gone already.
        return


async def _said(socket: WebSocket, served: Service, message: dict[str, Any] | bytes) -> None:
    sending = socket.send_bytes(message) if isinstance(message, bytes) else socket.send_json(message)
    try:
        async with asyncio.timeout(served.options.write_seconds):
            await sending
    except TimeoutError:
        raise _Over(_REFUSED, f"nothing was taken for {served.options.write_seconds:g} s") from None


async def _heard(socket: WebSocket, served: Service) -> str | bytes:
    """The client's next message."""
    try:
        async with asyncio.timeout(served.options.live_idle_seconds):
            message = await socket.receive()
    except TimeoutError:
        raise _Over(_REFUSED, f"nothing was sent for {served.options.live_idle_seconds:g} s") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    found: str | bytes | None = message.get("bytes")
    return found if found is not None else str(message.get("text") or "")


async def _greeted(socket: WebSocket, served: Service) -> Session:
    text = await _heard(socket, served)
    try:
        hello = Hello.model_validate_json(text)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'hello'}: {one['msg']}" for one in error.errors())
        raise _Over(_MALFORMED, told) from None
    key = served.options.key
    if key is not None and not (socket.state.key_shown or door.same(hello.key or "", key)):
        raise _Over(_REFUSED, "expected the server's key, as a header of the request or as key in the hello")
    loaded = await served.shelf.get(hello.model)
    profile = None if hello.profile is None else Profile.parse(hello.profile, "profile")
    session = Session(
        loaded, hello.rate, hello.channels, hello.format, hello.mode, hello.cutoff_hz, profile, hello.brightness
    )
    facts = {"model": loaded.kind, "version": loaded.version, **session.facts}
    await _said(socket, served, {"type": "ready", **facts})
    return session


async def _streamed(socket: WebSocket, served: Service, session: Session) -> None:
    """Take frames and give frames until the client's end, neither far behind nor far ahead of time."""
    backlog = _Backlog(round(served.options.live_backlog_seconds * session.bytes_a_second))
    reading = asyncio.create_task(_read(socket, served, session, backlog))
    begun, mode = time.monotonic(), str(session.facts["mode"])
    try:
        while (data := await backlog.take(session.bytes_a_second)) is not None:
            early = session.seconds - served.options.live_ahead_seconds - (time.monotonic() - begun)
            if early > 0:
                await asyncio.sleep(early)
            if out := await served.listen(lambda data=data: session.push(data)):  # type: ignore[misc]
                await _said(socket, served, out)
            served.meters.audio.labels(door.LIVE, mode).inc(len(data) / session.bytes_a_second)
        # What went wrong while reading is the session's end.
        await reading
        if out := await served.listen(session.finish):
            await _said(socket, served, out)
    finally:
        reading.cancel()


async def _read(socket: WebSocket, served: Service, session: Session, backlog: _Backlog) -> None:
    try:
        while True:
            message = await _heard(socket, served)
            if isinstance(message, bytes):
                if len(message) % session.frame_bytes:
                    raise _Over(
                        _MALFORMED, f"expected whole frames of {session.frame_bytes} bytes, got {len(message)} bytes"
                    )
                await backlog.put(message)
                continue
            if _is_end(message):
                return
            raise _Over(_MALFORMED, 'expected frames of samples, or {"type": "end"}')
    finally:
        backlog.end()


def _is_end(text: str) -> bool:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("type") == "end"


class _Backlog:
    """Bytes that were received and not yet computed. Who puts more than there is room for waits.

    A reader that waits reads no more from the connection, whose own buffers then fill: so the client is held.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = bytearray()
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        async with self._changed:
            # One message alone may be larger than the room.
            await self._changed.wait_for(lambda: not self._held or len(self._held) + len(data) <= self._most)
            self._held += data
            self._changed.notify_all()

    async def take(self, most: int) -> bytes | None:
        """What has come, at most `most` bytes; None when all has been taken and no more will come."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held or self._ended)
            if not self._held:
                return None
            taken = bytes(self._held[:most])
            del self._held[:most]
            self._changed.notify_all()
            return taken

    def end(self) -> None:
        self._ended = True
        # Whoever waits has to look again; the lock cannot be waited for here.
        asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()
