"""`GET /v1/samples`: short clips that come with the program, to listen to its models with."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import BaseModel

from overtone import audio
from overtone.audio import Signal
from overtone.serving.refusal import Refused, documented

FOLDER = Path(__file__).parent / "assets" / "samples"

router = APIRouter(prefix="/v1", tags=["samples"])


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


@router.get("/samples")
def samples() -> Samples:
    """Clips to try the models on, with their licences."""
    return Samples(samples=list(_clips()))


@router.get("/samples/{name}", response_class=FileResponse, responses=documented(404))
def sample(name: str) -> FileResponse:
    """A clip's FLAC file."""
    if not any(clip.name == name for clip in _clips()):
        raise Refused(404, f"there is no sample {name[:64]!r}; expected a name of /v1/samples")
    return FileResponse(FOLDER / f"{name}.flac", media_type="audio/flac")


@cache
def recorded_noise(rate: int) -> Signal:
    """A room's noise (1, samples) at `rate` Hz, for conditions that add noise."""
    signal, own = audio.read(FOLDER / f"{_listed()['noise']['name']}.flac")
    return audio.resample(signal, own, rate)


@cache
def _clips() -> tuple[Sample, ...]:
    return tuple(
        Sample(
            seconds=round(audio.probe(FOLDER / f"{clip['name']}.flac").seconds, 2),
            url=f"v1/samples/{clip['name']}",
            **clip,
        )
        for clip in _listed()["clips"]
    )


def _listed() -> dict[str, Any]:
    listed: dict[str, Any] = json.loads((FOLDER / "samples.json").read_text())
    return listed
