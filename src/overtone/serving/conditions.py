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


def described(name: str, condition: Condition) -> dict[str, str]:
    """A condition's name, the mode that suits it, a title, and what it does in a sentence."""
    mode = "restore" if condition.mode == "restore" else "extend"
    first, *others = [_words(step)[0] for step in condition.steps]
    title = ", ".join([first, *(_inside(other) for other in others)])
    sentence = "; then ".join(_words(step)[1] for step in condition.steps)
    return {"name": name, "mode": mode, "title": title, "description": f"{sentence[0].upper()}{sentence[1:]}."}


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


def _inside(title: str) -> str:
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
