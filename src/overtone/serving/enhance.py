"""`POST /v1/enhance`: an audio file in, the enhanced file out while it is computed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.types import Message, Receive, Scope, Send

from overtone.audio import sending
from overtone.enhance.upsampler import Mode
from overtone.errors import OvertoneError
from overtone.serving import refusal, service, upload
from overtone.serving.service import Service
from overtone.serving.work import Answer, Order, Work

log = logging.getLogger("overtone.serving")
router = APIRouter(prefix="/v1", tags=["audio"])

# OpenAPI cannot see what a route reads and writes as bytes.
_BYTES = {"type": "string", "format": "binary"}
_FILES = {
    upload.FIELD: _BYTES,
    upload.REFERENCE: {**_BYTES, "description": "A full-band recording of the same chain, to extend by."},
    upload.PROFILE: {**_BYTES, "description": "What `overtone profile` made of such recordings."},
}
_FORM = {"type": "object", "required": [upload.FIELD], "properties": _FILES}
BODY = {
    "description": "An audio file: WAV, FLAC, Ogg Vorbis or Opus, MP3 or another that libsndfile reads.",
    "required": True,
    "content": {"multipart/form-data": {"schema": _FORM}, "application/octet-stream": {"schema": _BYTES}},
}
_ANSWER = {
    "description": "The enhanced file, sent while it is computed.",
    "content": {kind: {"schema": _BYTES} for kind in sending.MEDIA_TYPES.values()},
}

Format = Literal["wav", "flac", "ogg", "opus", "mp3"]


@router.post(
    "/enhance",
    response_class=Response,
    responses={200: _ANSWER, **refusal.documented(401, 404, 408, 413, 415, 422, 429, 503)},
    openapi_extra={"requestBody": BODY},
)
async def enhance(
    request: Request,
    served: Annotated[Service, Depends(service.of)],
    model: Annotated[str | None, Query(description="An alias, a version number or a released model.")] = None,
    mode: Annotated[
        Mode, Query(description="extend keeps the known band; restore also repairs it; auto where it must.")
    ] = "auto",
    cutoff_hz: Annotated[
        float | None, Query(gt=0, allow_inf_nan=False, description="Above it the file holds nothing; else found.")
    ] = None,
    brightness: Annotated[
        float, Query(ge=-6, le=6, allow_inf_nan=False, description="dB by which what is added is brighter or duller.")
    ] = 0.0,
    format: Annotated[Format | None, Query(description="Of the answer; else the file's own, or WAV.")] = None,
    rate: Annotated[int | None, Query(ge=8_000, le=192_000, description="Of the answer in Hz; else 48000.")] = None,
) -> Response:
    """Enhance an audio file: the request's body, or the field `file` of a multipart form."""
    order = Order(mode, cutoff_hz, format, rate, brightness)
    async with AsyncExitStack() as stack:
        stack.enter_context(served.room.entered(service.client_of(request)))
        loaded = await served.shelf.get(model)
        given = await stack.enter_async_context(upload.received(request, served.options))
        await stack.enter_async_context(served.room.worked_on())
        if await request.is_disconnected():
            # Nobody waits any more: that is known to the log alone.
            raise refusal.Refused(499, "the client is gone")

        def begin() -> tuple[Work, bytes | None]:
            # What is wrong with a file mostly shows in its first piece, where there is still a status to tell it by.
            opened = Work(loaded, given, order, served.options.max_seconds)
            return opened, opened.next()

        work, first = await served.compute(begin)
        headers = {
            "X-Overtone-Model": loaded.kind,
            "X-Overtone-Version": loaded.version,
            "X-Overtone-Mode": work.mode,
            "X-Overtone-Cutoff-Hz": f"{work.treatment.cutoff_hz:.0f}",
            "X-Overtone-Done": work.account,
        }
        counted = partial(served.meters.enhanced, work)
        return Pieces(request, served, work, first, headers, stack.pop_all(), counted)


class Pieces(Response):
    """An answer sent piece by piece, each computed when the one before is on its way.

    When something fails after the first piece, the connection is broken off: no client can take the rest for a whole file.
    """

    def __init__(
        self,
        request: Request,
        served: Service,
        work: Answer,
        first: bytes | None,
        headers: Mapping[str, str],
        held: AsyncExitStack,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self.status_code = 200
        self.media_type = sending.MEDIA_TYPES[work.format]
        self.background = None
        self.init_headers(headers)
        self._request, self._served, self._work, self._first, self._held = request, served, work, first, held
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            try:
                await self._sent(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                piece = self._first
                while piece is not None:
                    if await self._request.is_disconnected():
                        return
                    await self._sent(send, {"type": "http.response.body", "body": piece, "more_body": True})
                    piece = await self._served.compute(self._work.next)
                await self._sent(send, {"type": "http.response.body", "body": b"", "more_body": False})
                self._done()
            except Exception as error:  # whatever it is, the client must see a broken answer
                self._served.meters.broken.inc()
                log.error("an answer was broken off: %s", " ".join(str(error).split()) or type(error).__name__)

    async def _sent(self, send: Send, message: Message) -> None:
        try:
            async with asyncio.timeout(self._served.options.write_seconds):
                await send(message)
        except TimeoutError:
            raise OvertoneError(f"its client took nothing for {self._served.options.write_seconds:g} s") from None
