"""Whether the server answers, whether it is ready, and what it has done."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from overtone.serving.engine import Engine, engine_of
from overtone.serving.errors import Refused

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(engine: Annotated[Engine, Depends(engine_of)]) -> dict[str, str]:
    """Whether a model is loaded and tried out."""
    if engine.models.current is None:
        raise Refused(503, "the model is not loaded yet; try again in a moment", 1)
    return {"status": "ready"}


@router.get("/metrics", include_in_schema=False)
async def metrics(engine: Annotated[Engine, Depends(engine_of)]) -> Response:
    """The counters in Prometheus's text format."""
    return Response(engine.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/statistics")
async def statistics(engine: Annotated[Engine, Depends(engine_of)]) -> dict[str, Any]:
    """What came in, by day: bandwidth, level, damage, drift; and how the challenger does beside the model."""
    return await asyncio.to_thread(engine.statistics.report)
