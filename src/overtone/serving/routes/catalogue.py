"""What the server says of itself: whether it is ready, what it has done, and what a request may name."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from overtone import audio
from overtone.serving import conditions
from overtone.serving.engine import ServersEngine
from overtone.serving.errors import Refused

router = APIRouter(tags=["catalogue"])


class Model(BaseModel):
    """A model that a request may name.

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


class Condition(BaseModel):
    """A condition: its name, the mode that suits it, and what it does in words."""

    name: str
    mode: Literal["auto", "extend", "restore"]
    title: str


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(engine: ServersEngine) -> dict[str, str]:
    """Whether a model is loaded and tried out."""
    engine.models.require_loaded()
    return {"status": "ready"}


@router.get("/metrics", include_in_schema=False)
async def metrics(engine: ServersEngine) -> Response:
    """The counters in Prometheus's text format."""
    return Response(engine.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/statistics")
async def statistics(engine: ServersEngine) -> dict[str, Any]:
    """What came in, by day: bandwidth, level, damage, drift; and how the challenger does beside the model."""
    return await asyncio.to_thread(engine.statistics.report)


@router.get("/v1/models")
async def models(engine: ServersEngine) -> dict[str, list[Model]]:
    """Models that a request may name, those that were known last where the registry does not answer.

    The default one first, then the registry's versions, the newest first, then the released models.
    """
    current = engine.models.current
    found = [
        Model(**asdict(row), default=current is not None and current.version == row.version)
        for row in await engine.models.known()
    ]
    if current is not None and not any(one.default for one in found):
        own = Model(reference="auto", version=current.version, aliases=[], model=current.kind, scores={}, default=True)
        found.insert(0, own)
    return {"models": sorted(found, key=lambda one: not one.default)}


@router.get("/v1/conditions")
def listed_conditions() -> dict[str, list[Condition]]:
    """What a job can do to a recording before it is enhanced: `none` first, then those of params.yaml in its order."""
    none = Condition(name=conditions.NONE, mode="auto", title="As it is")
    return {"conditions": [none, *(Condition(**conditions.described(*one)) for one in conditions.known().items())]}


@router.get("/v1/samples")
def samples() -> dict[str, list[dict[str, Any]]]:
    """Full-band clips to try the models on, which no released model was trained on, with their authors and licences."""
    return {"samples": [_clip(**clip) for clip in conditions.samples()["clips"]]}


@router.get("/v1/samples/{name}", response_class=FileResponse)
def sample(name: str) -> FileResponse:
    """A clip's FLAC file."""
    if not any(clip["name"] == name for clip in conditions.samples()["clips"]):
        raise Refused(404, f"there is no sample {name[:64]!r}; expected a name of /v1/samples")
    return FileResponse(conditions.SAMPLES / f"{name}.flac", media_type="audio/flac")


def _clip(name: str, **facts: str) -> dict[str, Any]:
    seconds = audio.probe(conditions.SAMPLES / f"{name}.flac").seconds
    return {"name": name, **facts, "seconds": round(seconds, 2), "url": f"v1/samples/{name}"}
