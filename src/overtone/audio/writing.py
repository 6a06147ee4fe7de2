"""Audio files written: whole, block by block, or into memory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from overtone.audio import flac
from overtone.audio.atomic import replacing
from overtone.audio.channels import USUAL, bits, stored
from overtone.audio.containers import MEDIA, container
from overtone.audio.libsndfile import set_loudspeakers
from overtone.audio.media import MediaWriter
from overtone.audio.samples import BLOCK_FRAMES, AudioError, Signal, name_of


class Writer:
    """An audio file written block by block; blocks are (channels, samples), in the order of their mask.

    Args:
        remarks: title, artist and other texts, by libsndfile's names for them; those that the format cannot hold are dropped.
        mask: which channel is which loudspeaker's (see `channels`), 0 where nobody says.

    Raises:
        AudioError: the format cannot hold this rate or number of channels, or the extra that writes it is missing.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        rate: int,
        channels: int,
        format: str,
        subtype: str,
        remarks: Mapping[str, str] | None = None,
        mask: int = 0,
    ) -> None:
        self._close = ExitStack()
        if format == MEDIA:
            raw = self._close.enter_context(target.open("wb")) if isinstance(target, Path) else target
            self._media = MediaWriter(raw, name_of(target), rate, channels)
            self._close.callback(self._media.close)
            self._write = self._media.write
            return
        try:
            file = soundfile.SoundFile(target, "w", samplerate=rate, channels=channels, format=format, subtype=subtype)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{name_of(target)}: {format}/{subtype} cannot hold {channels} channels at {rate} Hz ({error.error_string})"
            ) from None
        if isinstance(target, Path) and format == "FLAC" and channels > 2 and mask not in (0, USUAL.get(channels)):
            self._close.callback(flac.set_mask, target, mask)
        self._close.callback(file.close)
        self._order = stored(format, channels)
        if mask.bit_count() == channels:
            set_loudspeakers(file, bits(mask))
        for name, text in (remarks or {}).items():
            with suppress(soundfile.LibsndfileError):
                setattr(file, name, text)
        self._file = file
        self._write = self._interleaved

    def write(self, block: Signal) -> None:
        for start in range(0, block.shape[1], BLOCK_FRAMES):
            self._write(block[:, start : start + BLOCK_FRAMES])

    def _interleaved(self, block: Signal) -> None:
        self._file.write(np.ascontiguousarray(block[self._order].T))

    def close(self) -> None:
        self._close.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write(path: Path, signal: Signal, rate: int, subtype: str | None = None) -> None:
    """Write a whole signal (channels, samples), under a temporary name first; format by extension, 16 bit unless told.

    Raises:
        AudioError: the format cannot hold this rate or number of channels.
    """
    format, subtype = container(path, subtype)
    with replacing(path) as temporary, Writer(temporary, rate, signal.shape[0], format, subtype) as file:
        file.write(signal)


def encode(signal: Signal, rate: int, format: str = "WAV", subtype: str | None = None) -> bytes:
    """A signal (channels, samples) as the bytes of an audio file.

    Raises:
        AudioError: unknown format, or one that cannot hold this rate or number of channels.
    """
    name, subtype = container(Path(f"audio.{format.lower()}"), subtype)
    buffer = io.BytesIO()
    with Writer(buffer, rate, signal.shape[0], name, subtype) as file:
        file.write(signal)
    return buffer.getvalue()
