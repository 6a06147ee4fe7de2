"""`POST /v1/enhance`: an audio file in, the enhanced file out while it is computed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from overtone.audio import sending
from overtone.serving import uploads
from overtone.serving.engine import Client, ServersEngine
from overtone.serving.enhancement import Enhancement, Order
from overtone.serving.errors import Refused

ROUTE = "/v1/enhance"
router = APIRouter(tags=["audio"])
AUDIO = {kind: {"schema": uploads.BYTES} for kind in sending.MEDIA_TYPES.values()}


async def until_sent() -> AsyncIterator[AsyncExitStack]:
    """A stack that FastAPI closes when the answer is sent or broken off."""
    async with AsyncExitStack() as stack:
        yield stack


@router.post(
    ROUTE,
    response_class=Response,
    responses={200: {"description": "The enhanced file, sent while it is computed.", "content": AUDIO}},
    openapi_extra={"requestBody": uploads.BODY},
)
async def enhance(
    request: Request,
    client: Client,
    engine: ServersEngine,
    order: Annotated[Order, Query()],
    stack: Annotated[AsyncExitStack, Depends(until_sent)],
) -> Response:
    """Enhance an audio file: the request's body, or the field `file` of a multipart form."""
    options = engine.options
    stack.enter_context(engine.limits.request(client))
    loaded = await engine.models.get(order.model)
    given = await stack.enter_async_context(uploads.received(request, options, options.max_megabytes))
    work = Enhancement(loaded, given, order, options.max_seconds)
    async for _ in engine.steps(work.open(), client):
        await _require_connection(request)
    await engine.compute(work.examine, client)
    pieces = engine.steps(work.pieces(), client)
    # What is wrong with a file mostly shows in its first piece, where there is still a status to say it by.
    first = b""
    async for first in pieces:
        await _require_connection(request)
        if first:
            break
    headers = {
        "X-Overtone-Model": loaded.kind,
        "X-Overtone-Version": loaded.version,
        "X-Overtone-Mode": work.treatment.mode,
        "X-Overtone-Cutoff-Hz": f"{work.treatment.cutoff_hz:.0f}",
        "X-Overtone-Done": work.account,
    }

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            if piece:
                yield piece
        await engine.count(ROUTE, work)

    return StreamingResponse(body(), headers=headers, media_type=sending.MEDIA_TYPES[work.format])


async def _require_connection(request: Request) -> None:
    if await request.is_disconnected():
        # Nobody waits any more: that is known to the log alone.
        raise Refused(499, "the client is gone")
