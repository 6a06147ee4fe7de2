"""`GET /v1/conditions`: the fixed evaluation conditions, in words."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from overtone import settings as params
from overtone.settings import (
    BitErrors,
    Clip,
    Codec,
    Condition,
    NarrowBand,
    Noise,
    PacketLoss,
    Quantise,
    Resample,
    Step,
    project,
)

router = APIRouter(prefix="/v1", tags=["conditions"])

NONE = "none"
# What a server has that runs where no params.yaml is: the project's own.
_LOSS = {"zero": PacketLoss(share=0.1), "repeat": PacketLoss(share=0.1, fill="repeat")}
_SPEECH = ("speech",)
_DEFAULTS = {
    **{f"sinc_{khz}k": Condition(mode="extend", steps=(Resample(rate=1000 * khz),)) for khz in (8, 12, 16, 24)},
    "mp3_mono_32k": Condition(mode="restore", channels=1, steps=(Codec(codec="mp3", kbps=32),)),
    "mp3_stereo_64k": Condition(mode="restore", channels=2, steps=(Codec(codec="mp3", kbps=64),)),
    "opus_16k": Condition(mode="restore", steps=(Codec(codec="opus", kbps=16),)),
    **{
        f"loss_{khz}k_{fill}": Condition(mode="restore", kinds=_SPEECH, steps=(Resample(rate=1000 * khz), loss))
        for khz in (8, 16)
        for fill, loss in _LOSS.items()
    },
    **{f"loss_48k_{fill}": Condition(mode="restore", steps=(loss,)) for fill, loss in _LOSS.items()},
    "noise_10db": Condition(mode="restore", highpass_hz=60, steps=(Noise(snr_db=10),)),
    **{
        f"noise_{snr}db": Condition(mode="restore", kinds=_SPEECH, highpass_hz=60, steps=(Noise(snr_db=snr),))
        for snr in (5, 0)
    },
    "mixture": Condition(
        mode="restore",
        kinds=_SPEECH,
        steps=(Noise(snr_db=15), Resample(rate=8_000), Codec(codec="mulaw"), PacketLoss(share=0.05)),
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
                Told(
                    name=name,
                    mode="restore" if one.mode == "restore" else "extend",
                    title=_title(one.steps),
                    description=_sentence(one.steps),
                )
                for name, one in known().items()
            ),
        ]
    )


def known() -> dict[str, Condition]:
    """The project's conditions that do something; where there is no project, those that it comes with.

    None without the libraries that they need.
    """
    if not importlib.util.find_spec("torchaudio"):
        return {}
    if (root := project.source()) is not None:
        loaded = params.load(root / project.SETTINGS).degrade.conditions
        return {name: one for name, one in loaded.items() if one.steps}
    return dict(_DEFAULTS)


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
            filled = "the last one is repeated" if step.fill == "repeat" else "silence takes their place"
            lost = f"{step.share:.0%} of its {step.frame_ms:g} ms packets are lost, and {filled}"
            return f"{step.share:.0%} lost packets{' repeated' if step.fill == 'repeat' else ''}", lost
        case Resample():
            return f"{step.rate / 1_000:g} kHz source", f"it is sent at {step.rate / 1_000:g} kHz"
        case BitErrors():
            return "Bit errors", f"{step.rate:.2%} of its bits are flipped"
        case Noise():
            return f"Noise at {step.snr_db:g} dB", f"noise {step.snr_db:g} dB below the sound is added"
        case Clip():
            return "Clipped", f"the loudest {step.share:.0%} of its samples are clipped"
        case Quantise():
            return f"{step.bits} bit", f"it is rounded to {step.bits} bit"
