"""Whether the server lives, and whether it can work."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from overtone.serving import service
from overtone.serving.refusal import Refused
from overtone.serving.service import Service

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(served: Annotated[Service, Depends(service.of)]) -> dict[str, str]:
    """Whether a model is loaded and tried out."""
    if served.shelf.current is None:
        raise Refused(503, "the model is not loaded yet; try again in a moment", 1)
    return {"status": "ready"}
