"""`POST /v1/degrade`: a recording made worse as an evaluation condition does it, to hear what a model makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Annotated, BinaryIO

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response

from overtone import audio
from overtone.audio import Signal, sending
from overtone.serving import conditions, uploads
from overtone.serving.conditions import MAX_DAMAGED_SECONDS, RATE
from overtone.serving.engine import Engine, client_of, engine_of
from overtone.serving.enhancement import SHORT_SECONDS, encoded, of_length, opened
from overtone.serving.errors import documented
from overtone.serving.routes.enhance import AUDIO, Format, Pieces

router = APIRouter(prefix="/v1", tags=["conditions"])


@router.post(
    "/degrade",
    response_class=Response,
    responses={200: {"content": AUDIO}, **documented(400, 401, 404, 408, 413, 415, 422, 429, 503)},
    openapi_extra={"requestBody": uploads.BODY},
)
async def degrade(
    request: Request,
    engine: Annotated[Engine, Depends(engine_of)],
    condition: Annotated[
        str, Query(description="A name of /v1/conditions; none only decodes and resamples.")
    ] = conditions.NONE,
    format: Annotated[Format, Query(description="Of the answer.")] = "wav",
) -> Response:
    """Make a recording worse as an evaluation condition does, at 48 kHz; the same request gives the same bytes."""
    found, options, client = conditions.found(condition), engine.options, client_of(request)
    most = options.max_seconds if found is None else min(options.max_seconds, MAX_DAMAGED_SECONDS)
    async with AsyncExitStack() as stack:
        stack.enter_context(engine.limits.request(client))
        given = await stack.enter_async_context(uploads.received(request, options, options.max_bytes))
        slot = await stack.enter_async_context(engine.limits.slot(client))
        info = await engine.workers.compute(lambda: opened(given.file, most))
        frames = audio.resampled_length(info.frames, info.rate, RATE)
        headers: dict[str, str] = {}

        def blocks(file: BinaryIO) -> Iterator[Signal]:
            whole = of_length(conditions.decoded(file, info), frames, round(SHORT_SECONDS * RATE))
            if found is None:
                yield from whole
                return
            signal, cutoff = conditions.damaged(np.concatenate(list(whole), axis=1), condition, found)
            headers["X-Overtone-Cutoff-Hz"] = f"{min(cutoff, info.rate / 2):.0f}"
            yield signal

        pieces = engine.steps(encoded(blocks(given.file), format, RATE, info.channels, frames, "PCM_16"), slot)
        first = b""
        async for first in pieces:
            if first:
                break
        media_type = sending.MEDIA_TYPES[format]
        return Pieces(engine.metrics, media_type, first, pieces, slot, headers, stack.pop_all(), _nothing)


async def _nothing() -> None:
    """Recordings that are only made worse are not counted."""
