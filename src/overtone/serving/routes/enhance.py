"""`POST /v1/enhance`: an audio file in, the enhanced file out while it is computed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.types import Receive, Scope, Send

from overtone.audio import sending
from overtone.enhance.upsampler import Mode
from overtone.serving import uploads
from overtone.serving.engine import Engine, client_of, engine_of
from overtone.serving.enhancement import Enhancement, Order
from overtone.serving.errors import Refused, documented, sentence_of
from overtone.serving.limits import Slot
from overtone.serving.metrics import Metrics
from overtone.serving.middleware import TooSlowError, paced

log = logging.getLogger("overtone.serving")
router = APIRouter(prefix="/v1", tags=["audio"])

AUDIO = {kind: {"schema": uploads.BYTES} for kind in sending.MEDIA_TYPES.values()}
# A client that takes longer for a piece gives its slot to another until it has taken it.
_SLOW_SECONDS = 0.5

Format = Literal["wav", "flac", "ogg", "opus", "mp3"]
ModelName = Annotated[str | None, Query(description="An alias, a version number or a released model.")]


def order_of(
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
) -> Order:
    """What a request wants to be made of its file."""
    return Order(mode, cutoff_hz, format, rate, brightness)


@router.post(
    "/enhance",
    response_class=Response,
    responses={
        200: {"description": "The enhanced file, sent while it is computed.", "content": AUDIO},
        **documented(400, 401, 404, 408, 413, 415, 422, 429, 503),
    },
    openapi_extra={"requestBody": uploads.BODY},
)
async def enhance(
    request: Request,
    engine: Annotated[Engine, Depends(engine_of)],
    order: Annotated[Order, Depends(order_of)],
    model: ModelName = None,
) -> Response:
    """Enhance an audio file: the request's body, or the field `file` of a multipart form."""
    options, client = engine.options, client_of(request)
    async with AsyncExitStack() as stack:
        stack.enter_context(engine.limits.request(client))
        loaded = await engine.models.get(model)
        given = await stack.enter_async_context(uploads.received(request, options, options.max_bytes))
        slot = await stack.enter_async_context(engine.limits.slot(client))
        work = Enhancement(loaded, given, order, options.max_seconds)
        async for _ in engine.steps(work.open(), slot):
            await _require_connection(request)
        await engine.workers.compute(work.examine)
        await _require_connection(request)
        compared = await engine.excerpt_for_shadow(given.file, work)
        pieces = engine.steps(work.pieces(), slot)
        # What is wrong with a file mostly shows in its first piece, where there is still a status to say it by.
        first = b""
        async for first in pieces:
            await _require_connection(request)
            if first:
                break
        headers = {
            "X-Overtone-Model": loaded.kind,
            "X-Overtone-Version": loaded.version,
            "X-Overtone-Mode": work.mode,
            "X-Overtone-Cutoff-Hz": f"{work.treatment.cutoff_hz:.0f}",
            "X-Overtone-Done": work.account,
        }
        media_type, done = sending.MEDIA_TYPES[work.format], partial(engine.count, "/v1/enhance", work, compared)
        return Pieces(engine.metrics, media_type, first, pieces, slot, headers, stack.pop_all(), done)


async def _require_connection(request: Request) -> None:
    if await request.is_disconnected():
        # Nobody waits any more: that is known to the log alone.
        raise Refused(499, "the client is gone")


class Pieces(Response):
    """An answer sent piece by piece, each computed when the one before is on its way.

    When something fails after the first piece, the connection is broken off: no client can take the rest for a whole file.

    Args:
        slot: to compute in, given up while the client is slow.
        held: what the answer needs until its end.
        done: called when all is sent.
    """

    def __init__(
        self,
        metrics: Metrics,
        media_type: str,
        first: bytes,
        pieces: AsyncIterator[bytes],
        slot: Slot,
        headers: Mapping[str, str],
        held: AsyncExitStack,
        done: Callable[[], Awaitable[None]],
    ) -> None:
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers(headers)
        self._metrics, self._first, self._pieces, self._slot = metrics, first, pieces, slot
        self._held, self._done = held, done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, send = Request(scope, receive), paced(send, _SLOW_SECONDS, self._slot.release)
        async with self._held:
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": self._first, "more_body": True})
                await self._slot.acquire()
                async for piece in self._pieces:
                    if await request.is_disconnected():
                        return
                    if piece:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                        await self._slot.acquire()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                await self._done()
            except TooSlowError:
                raise
            except Exception as error:  # whatever it is, the client must see a broken answer
                self._metrics.broken.inc()
                log.error("an answer was broken off: %s", sentence_of(error))
