"""One request's audio on its way: opened, checked against the limits, enhanced and encoded piece by piece."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from overtone import audio
from overtone.audio import AudioError, Signal, sending
from overtone.dsp.stft import HOP
from overtone.enhance.account import account
from overtone.enhance.profile import Profile, read_profile
from overtone.enhance.upsampler import Mode
from overtone.serving.refusal import Refused
from overtone.serving.shelf import Loaded
from overtone.serving.upload import Upload

# Samples at 48 kHz that are computed and sent at a time: about five seconds.
BLOCK = 480 * HOP
# A file may end this much before its header says, as encoders of MP3 leave it; one that was cut off lacks more.
SHORT_SECONDS = 0.1
# A profile is a minute of bands, a third of this.
MOST_PROFILE_BYTES = 1_000_000


class Answer(Protocol):
    """An audio file as the pieces in which its bytes become known."""

    @property
    def format(self) -> str: ...

    def next(self) -> bytes | None: ...


def opened(file: BinaryIO, max_seconds: float) -> audio.Info:
    """The header of a request's audio.

    Raises:
        Refused: not audio (415), or longer than `max_seconds` summed over channels (413).
        AudioError: the header does not say how long it is.
    """
    try:
        info = audio.probe(file, max_seconds)
    except AudioError as error:
        raise Refused(415, str(error)) from None
    if not info.length_known:
        raise AudioError(audio.endless(file))
    if info.seconds * info.channels > max_seconds:
        raise Refused(
            413,
            f"the audio is {info.seconds:.0f} s of {info.channels} channels; expected at most {max_seconds:g} s "
            "summed over channels",
        )
    return info


@dataclass(frozen=True)
class Order:
    """What is to be made of a file. None: as the file has it; `rate` in Hz, None for the model's own."""

    mode: Mode = "auto"
    cutoff_hz: float | None = None
    format: str | None = None
    rate: int | None = None
    brightness_db: float = 0.0


class Work:
    """A file being enhanced. All of it computes: made and driven in a worker's thread.

    Attributes:
        format: of the answer.
        treatment: what is done to the file; `account` says it in a sentence, `mode` in a word.
        seconds: of the file.
        computing: seconds that it took so far.

    Raises:
        Refused: not audio (415), or longer than `max_seconds` summed over channels (413).
        AudioError: audio that cannot be used, or a format that cannot hold it.
    """

    def __init__(self, loaded: Loaded, given: Upload, order: Order, max_seconds: float) -> None:
        begun = time.perf_counter()
        file, info = given.file, opened(given.file, max_seconds)
        model = loaded.upsampler
        self.seconds = info.seconds
        self.format = order.format or sending.format_of(info)
        profile = profile_of(given, model.rate, max_seconds)
        self.treatment = model.treatment_of(file, info, order.mode, order.cutoff_hz, profile, order.brightness_db)
        self.mode = "restore" if self.treatment.repairs else "extend"
        self.account = account(replace(self.treatment, profile=None), order.mode, model.rate)
        whole = audio.resampled_length(info.frames, info.rate, model.rate)
        rate = order.rate or model.rate
        frames = audio.resampled_length(whole, model.rate, rate)
        audio.container_for(Path(f"audio.{self.format}"), info, frames)
        encoder = sending.Encoder(self.format, rate, info.channels, frames, info.subtype, info.mask)
        blocks = model.blocks(file, info, self.treatment, rate=rate, size=BLOCK)
        exact = of_length(blocks, frames, round(SHORT_SECONDS * rate))
        self._pieces = sending.encoded(encoder, exact)
        self.computing = time.perf_counter() - begun

    def next(self) -> bytes | None:
        """The next bytes of the answer, None after the last.

        Raises:
            AudioError: the file turns out not to be usable audio, or ends before its header says.
        """
        begun = time.perf_counter()
        try:
            return next(self._pieces, None)
        finally:
            self.computing += time.perf_counter() - begun


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
