"""`GET /v1/conditions`: the fixed evaluation conditions, in words."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from overtone import params
from overtone.params import BitErrors, Clip, Codec, Condition, NarrowBand, Noise, PacketLoss, Quantise, Step

router = APIRouter(prefix="/v1", tags=["conditions"])

NONE = "none"
# What a server has that runs where no params.yaml is: the project's own.
_DEFAULTS: dict[str, tuple[Literal["extend", "restore"], tuple[Step, ...]]] = {
    "sinc_8k": ("extend", (NarrowBand(rate=8_000),)),
    "sinc_12k": ("extend", (NarrowBand(rate=12_000),)),
    "sinc_16k": ("extend", (NarrowBand(rate=16_000),)),
    "sinc_24k": ("extend", (NarrowBand(rate=24_000),)),
    "mp3_32k": ("restore", (Codec(codec="mp3", kbps=32),)),
    "mp3_64k": ("restore", (Codec(codec="mp3", kbps=64),)),
    "opus_16k": ("restore", (Codec(codec="opus", kbps=16),)),
    "loss_10": ("restore", (PacketLoss(share=0.1, burst=2.0),)),
    "noise_10db": ("restore", (Noise(snr_db=10),)),
    "mixture": (
        "restore",
        (Noise(snr_db=20), NarrowBand(rate=16_000), PacketLoss(share=0.05), Codec(codec="mulaw")),
    ),
}


class Told(BaseModel):
    """A condition: its name, the mode that suits it, and what it does in a sentence."""

    name: str
    mode: Literal["auto", "extend", "restore"]
    title: str
    description: str


class Conditions(BaseModel):
    """`none` first, then those of params.yaml in its order."""

    conditions: list[Told]


@router.get("/conditions")
def conditions() -> Conditions:
    """What `POST /v1/degrade` can do to a recording."""
    untouched = Told(
        name=NONE, mode="auto", title="As it is", description="The recording is enhanced just as it comes."
    )
    return Conditions(
        conditions=[
            untouched,
            *(
                Told(name=name, mode=one.mode, title=_title(one.steps), description=_sentence(one.steps))
                for name, one in known().items()
            ),
        ]
    )


def known() -> dict[str, Condition]:
    """The project's conditions; where there is no project, those that it comes with; none without the line's libraries."""
    if not importlib.util.find_spec("torchaudio"):
        return {}
    if Path("params.yaml").is_file():
        return params.load().degrade.conditions
    return {name: Condition(mode=mode, steps=steps) for name, (mode, steps) in _DEFAULTS.items()}


def _title(steps: Sequence[Step]) -> str:
    first, *others = [_words(step)[0] for step in steps]
    return ", ".join([first, *(_lower(other) for other in others)])


def _sentence(steps: Sequence[Step]) -> str:
    told = "; then ".join(_words(step)[1] for step in steps)
    return f"{told[0].upper()}{told[1:]}."


def _lower(title: str) -> str:
    """A title inside a sentence; names such as MP3 stay."""
    return title if title[:2].isupper() else title[0].lower() + title[1:]


def _words(step: Step) -> tuple[str, str]:
    """A step's name, and what it does."""
    match step:
        case NarrowBand():
            kept = step.cut * step.rate / 2_000
            return f"{step.rate / 1_000:g} kHz source", f"nothing is left above {kept:g} kHz"
        case Codec():
            names = {"mp3": "MP3", "opus": "Opus", "vorbis": "Vorbis", "mulaw": "mu-law", "alaw": "A-law"}
            size = f" at {step.kbps:g} kbit/s" if step.kbps else ""
            name = f"{names.get(step.codec, step.codec)}{size}"
            return name, f"it is coded as {name} and decoded again"
        case PacketLoss():
            return f"{step.share:.0%} lost packets", f"{step.share:.0%} of its {step.frame_ms:g} ms packets are lost"
        case BitErrors():
            return "Bit errors", f"{step.rate:.2%} of its bits are flipped"
        case Noise():
            return f"Noise at {step.snr_db:g} dB", f"noise {step.snr_db:g} dB below the sound is added"
        case Clip():
            return "Clipped", f"the loudest {step.share:.0%} of its samples are clipped"
        case Quantise():
            return f"{step.bits} bit", f"it is rounded to {step.bits} bit"
