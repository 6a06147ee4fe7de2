"""A file on its way: opened, checked against the limits, examined, enhanced and encoded, each a step of its own.

All of it computes: a step is made in a worker's thread, and between two steps others may compute.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from overtone import audio
from overtone.audio import AudioError, Signal, sending
from overtone.dsp.stft import HOP
from overtone.enhance.account import account
from overtone.enhance.profile import Profile, read_profile
from overtone.enhance.stream import Treatment
from overtone.enhance.upsampler import Mode, check_holds_samples, excerpts
from overtone.serving.errors import Refused
from overtone.serving.models import Loaded
from overtone.serving.uploads import Upload

# Samples at 48 kHz that are computed and sent at a time: about five seconds.
BLOCK = 480 * HOP
# A file may end this much before its header says, as encoders of MP3 leave it; one that was cut off lacks more.
SHORT_SECONDS = 0.1
# A profile is a minute of bands, a third of this.
MOST_PROFILE_BYTES = 1_000_000

Format = Literal["wav", "flac", "ogg", "opus", "mp3"]


class Order(BaseModel):
    """What is to be made of a file: the parameters of a request. None: as the file has it, or the model."""

    model_config = ConfigDict(frozen=True)
    model: Annotated[str | None, Field(description="An alias, a version number or a released model.")] = None
    mode: Annotated[
        Mode, Field(description="extend keeps the known band; restore also repairs it; auto where it must.")
    ] = "auto"
    cutoff_hz: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False, description="Above it the file holds nothing; else found.")
    ] = None
    brightness: Annotated[
        float, Field(ge=-6, le=6, allow_inf_nan=False, description="dB by which what is added is brighter or duller.")
    ] = 0.0
    format: Annotated[Format | None, Field(description="Of the answer; else the file's own, or WAV.")] = None
    rate: Annotated[int | None, Field(ge=8_000, le=192_000, description="Of the answer in Hz; else 48000.")] = None


def opened(file: BinaryIO, max_seconds: float) -> audio.Info:
    """The header of a request's audio.

    Raises:
        Refused: not audio (415), or longer than `max_seconds` summed over channels (413).
        AudioError: it holds no samples, or does not say how long it is.
    """
    try:
        info = audio.probe(file, max_seconds)
    except AudioError as error:
        raise Refused(415, str(error)) from None
    check_holds_samples(file, info)
    if info.seconds * info.channels > max_seconds:
        raise Refused(
            413,
            f"the audio is {info.seconds:.0f} s of {info.channels} channels; expected at most {max_seconds:g} s "
            "summed over channels",
        )
    return info


class Enhancement:
    """A file being enhanced: `open`, `examine`, then `blocks` or `pieces`.

    Attributes:
        file: that is enhanced.
        info: its header, once it is open; then `format` is the answer's, `rate` its rate in Hz, and `frames` its samples
            a channel.
        treatment: what is done to the file, once it is examined; `level_dbfs` is its own.
        computing: seconds that it took so far.
    """

    info: audio.Info
    format: str
    frames: int
    treatment: Treatment
    level_dbfs: float

    def __init__(self, loaded: Loaded, given: Upload, order: Order, max_seconds: float) -> None:
        self.loaded, self.file = loaded, given.file
        self._given, self._order, self._max_seconds = given, order, max_seconds
        self._model = loaded.upsampler
        self.rate = order.rate or self._model.rate
        self.computing = 0.0

    def open(self) -> Iterator[int]:
        """Read the header, and count the sound of a file whose header may be wrong, in steps.

        Yields:
            Samples counted so far.

        Raises:
            Refused, AudioError: as of `opened`.
            AudioError: the answer's format cannot hold the file.
        """
        try:
            yield from audio.counting(self.file, self._max_seconds)
        except AudioError as error:
            raise Refused(415, str(error)) from None
        self.info = opened(self.file, self._max_seconds)
        whole = audio.resampled_length(self.info.frames, self.info.rate, self._model.rate)
        self.frames = audio.resampled_length(whole, self._model.rate, self.rate)
        self.format = self._order.format or sending.format_of(self.info)
        audio.container_for(Path(f"audio.{self.format}"), self.info, self.frames)

    def examine(self) -> None:
        """Look at excerpts, and at the reference if there is one, and decide what is to be done.

        Raises:
            Refused, AudioError, ProfileError: the file, a setting or the reference cannot be used.
        """
        begun, order = time.perf_counter(), self._order
        profile = profile_of(self._given, self._model.rate, self._max_seconds)
        cuts = list(excerpts(self.file, self.info))
        power = sum(float(np.square(cut, dtype=np.float64).sum()) for cut in cuts)
        self.level_dbfs = 10.0 * np.log10(power / max(sum(cut.size for cut in cuts), 1) + 1e-12)
        self.treatment = self._model.treatment(
            lambda: cuts, self.info.rate, order.mode, order.cutoff_hz, profile, order.brightness
        )
        self.computing += time.perf_counter() - begun

    @property
    def account(self) -> str:
        """What is done, in a sentence."""
        return account(replace(self.treatment, profile=None), self._order.mode, self._model.rate)

    @property
    def facts(self) -> dict[str, Any]:
        """For the statistics of what comes in."""
        treatment = self.treatment
        damage = {"lost packets": treatment.conceal, "clipping": treatment.declip, "noise": treatment.denoise}
        return {
            "seconds": self.info.seconds,
            "cutoff_hz": treatment.cutoff_hz,
            "level_dbfs": self.level_dbfs,
            "format": self.info.format,
            # Only `auto` looks for damage.
            "damage": [name for name, found in damage.items() if found and self._order.mode == "auto"],
        }

    def blocks(self) -> Iterator[Signal]:
        """The enhanced samples, (channels, samples) at a time, in just the number that the header promises.

        Raises:
            AudioError: the file turns out not to be usable audio, or ends before its header says.
        """
        found = self._model.blocks(self.file, self.info, self.treatment, rate=self.rate, size=BLOCK)
        exact = of_length(found, self.frames, round(SHORT_SECONDS * self.rate))
        begun = time.perf_counter()
        for block in exact:
            self.computing += time.perf_counter() - begun
            yield block
            begun = time.perf_counter()

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the answer; a piece is empty where its bytes are not known yet."""
        info = self.info
        return encoded(self.blocks(), self.format, self.rate, info.channels, self.frames, info.subtype, info.mask)


def encoded(
    blocks: Iterator[Signal], format: str, rate: int, channels: int, frames: int, subtype: str, mask: int = 0
) -> Iterator[bytes]:
    """The bytes of a file, a piece for each block; empty where the format's bytes are known later."""
    encoder = sending.Encoder(format, rate, channels, frames, subtype, mask)
    for block in blocks:
        yield encoder.write(block)
    yield encoder.finish()


def profile_of(given: Upload, rate: int, max_seconds: float) -> Profile | None:
    """The profile that a request brings, or that of its reference; None without either.

    Args:
        rate: of the model, Hz.

    Raises:
        Refused: both are there, the profile is no JSON or too large, the reference is not audio or too long.
        ProfileError: not a profile, or a reference that cannot be used.
    """
    if given.profile is not None and given.reference is not None:
        raise Refused(422, "the form has both a profile and a reference; expected one of them")
    if given.reference is not None:
        opened(given.reference, max_seconds)
        return read_profile([given.reference], rate, "the reference")
    if given.profile is None:
        return None
    text = given.profile.read(MOST_PROFILE_BYTES + 1)
    if len(text) > MOST_PROFILE_BYTES:
        raise Refused(413, f"the profile is too large; expected at most {MOST_PROFILE_BYTES / 1e6:g} MB")
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(422, "the profile is not JSON; expected what `overtone profile` writes") from None
    return Profile.parse(tree, "the profile")


def of_length(blocks: Iterator[Signal], frames: int, short: int) -> Iterator[Signal]:
    """The samples in just the number that the answer's head promises; a file of more is not decoded to its end.

    Raises:
        AudioError: more than `short` are missing, or there are as many too many.
    """
    left, channels = frames, 1
    for block in blocks:
        channels = block.shape[0]
        if block.shape[1] - left > short:
            raise AudioError(f"the audio goes on after {frames} samples, where its header says that it ends")
        yield block[:, : max(left, 0)]
        left -= block.shape[1]
    if left > short:
        raise AudioError(f"the audio ends after {frames - left} samples; expected {frames}, as its header says")
    yield np.zeros((channels, max(left, 0)), np.float32)
