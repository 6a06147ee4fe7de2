"""The project's evaluation conditions, in words, and recordings made worse as they do it."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soxr

from overtone import audio, settings
from overtone.audio import AudioError, Signal
from overtone.errors import needs_extra
from overtone.serving.enhancement import SHORT_SECONDS, of_length, opened
from overtone.serving.errors import Refused
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
    scaffold,
)

NONE = "none"
RATE = 48_000
# Damages work on the whole signal, which takes its memory several times over.
MAX_DAMAGED_SECONDS = 300.0
SEED = 20260
SAMPLES = Path(__file__).parent / "assets" / "samples"


def known() -> dict[str, Condition]:
    """The conditions that do something: of the project, or of a new one where there is none.

    None without the libraries that they need.
    """
    if not importlib.util.find_spec("torchaudio"):
        return {}
    root = project.source()
    path = scaffold.packed(project.SETTINGS) if root is None else root / project.SETTINGS
    return {name: one for name, one in settings.load(path).degrade.conditions.items() if one.steps}


def described(name: str, condition: Condition) -> dict[str, Any]:
    """A condition's name, the mode that suits it, and what it does in words."""
    first, *others = map(_words, condition.steps)
    # Names such as MP3 stay as they are inside a sentence.
    title = ", ".join([first, *(one if one[:2].isupper() else one[0].lower() + one[1:] for one in others)])
    return {"name": name, "mode": "restore" if condition.mode == "restore" else "extend", "title": title}


def found(name: str) -> Condition | None:
    """A condition by its name; None for `none`.

    Raises:
        Refused: there is none of this name (404).
    """
    if name == NONE:
        # Without a look into the settings, which every job would pay for.
        return None
    condition = known().get(name)
    if condition is None:
        raise Refused(404, f"there is no condition {name[:64]!r}; expected a name of /v1/conditions")
    return condition


def write(file: BinaryIO, name: str, target: Path, max_seconds: float) -> None:
    """What a condition leaves of a file, at 48 kHz, into a WAV file; computes.

    Raises:
        Refused: no such condition (404), not audio (415), too long (413).
        AudioError: audio that cannot be used.
        MissingExtraError: the installation has none of the pipeline's libraries.
    """
    condition = found(name)
    assert condition is not None
    info = opened(file, min(max_seconds, MAX_DAMAGED_SECONDS))
    frames = audio.resampled_length(info.frames, info.rate, RATE)
    whole = np.concatenate(list(of_length(decoded(file, info), frames, round(SHORT_SECONDS * RATE))), axis=1)
    with needs_extra("a condition"):
        from overtone.data import degrade
    received, rate, _ = degrade.received(
        condition.steps, whole, RATE, degrade.generator(SEED, name), (recorded_noise(),)
    )
    audio.write(target, audio.fit_length(audio.resample(received, rate, RATE), frames), RATE, "FLOAT")


def decoded(file: BinaryIO, info: audio.Info) -> Iterator[Signal]:
    """The samples of a file at 48 kHz, aligned to those of an enhanced one.

    Raises:
        AudioError: a sample is no number.
    """
    resampler = soxr.ResampleStream(info.rate, RATE, info.channels, quality="VHQ")
    for block in audio.blocks(file):
        if not np.isfinite(block).all():
            raise AudioError("the audio holds samples that are no numbers; expected finite ones")
        yield block if info.rate == RATE else resampler.resample_chunk(np.ascontiguousarray(block.T)).T
    if info.rate != RATE:
        yield resampler.resample_chunk(np.zeros((0, info.channels), np.float32), last=True).T


@functools.cache
def recorded_noise() -> Signal:
    """Background noise (1, samples) at 48 kHz, for conditions that add noise."""
    signal, own = audio.read(SAMPLES / f"{samples()['noise']['name']}.flac")
    return audio.resample(signal, own, RATE)


@functools.cache
def samples() -> dict[str, Any]:
    """The list of the recordings that come with the page."""
    listed: dict[str, Any] = json.loads((SAMPLES / "samples.json").read_text())
    return listed


def _words(step: Step) -> str:
    """What a step does to a recording."""
    match step:
        case NarrowBand() | Resample():
            return f"{step.rate / 1_000:g} kHz source"
        case Codec():
            names = {"mp3": "MP3", "opus": "Opus", "vorbis": "Vorbis", "mulaw": "Mu-law", "alaw": "A-law"}
            size = f" at {step.kbps:g} kbit/s" if step.kbps else ""
            return f"{names.get(step.codec, step.codec)}{size}"
        case PacketLoss():
            return f"{step.share:.0%} lost packets{' repeated' if step.fill == 'repeat' else ''}"
        case BitErrors():
            return f"Bit errors, {step.rate:.2%}"
        case Noise():
            return f"Noise at {step.snr_db:g} dB"
        case Clip():
            return f"Clipped at {step.share:.0%} of its samples"
        case Quantise():
            return f"{step.bits} bit"
