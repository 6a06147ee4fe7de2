"""What a request may name: models, conditions, samples."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse
from pydantic import BaseModel

from overtone import audio
from overtone.serving import conditions
from overtone.serving.engine import Engine, engine_of
from overtone.serving.errors import Refused, documented

router = APIRouter(prefix="/v1", tags=["catalogue"])


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


class Models(BaseModel):
    """The default one first, then the registry's versions, the newest first, then the released models."""

    models: list[Model]


class Condition(BaseModel):
    """A condition: its name, the mode that suits it, and what it does in a sentence."""

    name: str
    mode: Literal["auto", "extend", "restore"]
    title: str
    description: str


class Conditions(BaseModel):
    """`none` first, then those of params.yaml in its order."""

    conditions: list[Condition]


class Sample(BaseModel):
    """A full-band recording that no released model was trained on.

    Attributes:
        kind: speech or music.
        by: whom to name.
        licence: its own, apart from the program's; an SPDX identifier.
        source: where it comes from, and what was changed.
        url: of the FLAC file, from the server's root.
    """

    name: str
    title: str
    kind: str
    seconds: float
    by: str
    licence: str
    source: str
    url: str


class Samples(BaseModel):
    """All of them."""

    samples: list[Sample]


@router.get("/models")
async def models(engine: Annotated[Engine, Depends(engine_of)]) -> Models:
    """Models that a request may name; those that were known last, where the registry does not answer."""
    current = engine.models.current
    found = [
        Model(
            reference=row.reference,
            version=row.version,
            aliases=list(row.aliases),
            model=row.model,
            scores=dict(row.scores),
            default=current is not None and current.version == row.version,
        )
        for row in await engine.models.known()
    ]
    if current is not None and not any(one.default for one in found):
        own = Model(reference="auto", version=current.version, aliases=[], model=current.kind, scores={}, default=True)
        found.insert(0, own)
    return Models(models=sorted(found, key=lambda one: not one.default))


@router.get("/conditions")
def listed_conditions() -> Conditions:
    """What a job can do to a recording before it is enhanced."""
    untouched = "The recording is enhanced just as it comes."
    none = Condition(name=conditions.NONE, mode="auto", title="As it is", description=untouched)
    described = [conditions.described(name, one) for name, one in conditions.known().items()]
    return Conditions(conditions=[none, *map(Condition.model_validate, described)])


@router.get("/samples")
def samples() -> Samples:
    """Clips to try the models on, with their licences."""
    return Samples(samples=list(_clips()))


@router.get("/samples/{name}", response_class=FileResponse, responses=documented(404))
def sample(name: str) -> FileResponse:
    """A clip's FLAC file."""
    if not any(clip.name == name for clip in _clips()):
        raise Refused(404, f"there is no sample {name[:64]!r}; expected a name of /v1/samples")
    return FileResponse(conditions.SAMPLES / f"{name}.flac", media_type="audio/flac")


@cache
def _clips() -> tuple[Sample, ...]:
    listed = [
        (clip, audio.probe(conditions.SAMPLES / f"{clip['name']}.flac")) for clip in conditions.samples()["clips"]
    ]
    return tuple(
        Sample(seconds=round(info.seconds, 2), url=f"v1/samples/{clip['name']}", **clip) for clip, info in listed
    )
