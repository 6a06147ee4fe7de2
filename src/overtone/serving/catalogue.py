"""`GET /v1/models`: what a request may name, with scores."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from overtone.registry import resolve
from overtone.serving import service
from overtone.serving.service import Service

router = APIRouter(prefix="/v1", tags=["models"])


class Model(BaseModel):
    """A model that `POST /v1/enhance?model=` takes.

    Attributes:
        reference: what a request names it by.
        version: of the registry, or a released model's name.
        aliases: other names.
        model: its family.
        scores: on the test set; none for a model outside the registry.
        default: whether requests that name none get it.
    """

    reference: str
    version: str
    aliases: list[str]
    model: str
    scores: dict[str, float]
    default: bool


class Models(BaseModel):
    """The default one first, then the registry's versions, the newest first, then the released models."""

    models: list[Model]


@router.get("/models")
async def models(served: Annotated[Service, Depends(service.of)]) -> Models:
    """Models that a request may name."""
    current = served.shelf.current
    rows = await asyncio.to_thread(resolve.known)
    found = [
        Model(
            reference=row.reference,
            version=row.version,
            aliases=list(row.aliases),
            model=row.model,
            scores=dict(row.scores),
            default=current is not None and current.version == row.version,
        )
        for row in rows
    ]
    if current is not None and not any(one.default for one in found):
        own = Model(reference="auto", version=current.version, aliases=[], model=current.kind, scores={}, default=True)
        found.insert(0, own)
    return Models(models=sorted(found, key=lambda one: not one.default))
