"""Audio files read: their headers, texts, excerpts, and all of them block by block."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from overtone.audio import mp3
from overtone.audio.samples import (
    BLOCK_FRAMES,
    HIGHEST_RATE,
    LOWEST_RATE,
    MAX_CHANNELS,
    AudioError,
    Signal,
    Source,
    name_of,
)

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"})
# What libsndfile says of a FLAC stream whose writer could not go back to its head is far above.
_MOST_FRAMES = 2**48
# As much as a file may lack of what its head promises: an encoder of MP3 leaves less.
_SHORT_SECONDS = 0.1
# What the files that are read begin with. libsndfile knows twenty kinds more, whose old parsers nobody's recordings need.
_BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"riff", b".snd", b"dns.", b"caff", b"fLaC", b"OggS", b"ID3")


@dataclass(frozen=True)
class Info:
    """What a file's header says: `rate` in Hz, `frames` samples a channel, libsndfile's format and subtype names."""

    rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    @property
    def length_known(self) -> bool:
        """Whether the header says how long the file is; that of FLAC written into a pipe does not."""
        return self.frames <= _MOST_FRAMES


@contextmanager
def _open(source: Source) -> Iterator[soundfile.SoundFile]:
    """A file opened for reading; whatever libsndfile raises inside becomes an AudioError."""
    if isinstance(source, Path):
        _check_file(source)
    else:
        source.seek(0)
    try:
        # As bytes, so that names that are not UTF-8 are found too.
        with ExitStack() as stack:
            _check_beginning(source)
            raw_or_name: Any = os.fsencode(source) if isinstance(source, Path) else _Stream(source)
            file = stack.enter_context(soundfile.SoundFile(raw_or_name))
            _check_header(source, file)
            if file.subtype == "MPEG_LAYER_III":
                raw = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
                # The reader that is open keeps its place in a stream that it shares.
                place = raw.tell()
                whole = mp3.headed(raw)
                raw.seek(place)
                if whole is not None:
                    file = stack.enter_context(soundfile.SoundFile(whole))
            yield file
    except (soundfile.LibsndfileError, RuntimeError, TypeError, MemoryError) as error:
        raise _unreadable(source, getattr(error, "error_string", str(error))) from None


class _Stream:
    """A stream for libsndfile, whose seeks to places that a broken header names stay where they are, as a file's do.

    Raised inside a callback, an error would only be printed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with suppress(ValueError, OverflowError, OSError):
            return self._file.seek(offset, whence)
        return self._file.tell()


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise AudioError(f"{path}: no such file")
        if not path.is_file():
            raise AudioError(f"{path}: not a file; expected a file of audio")
    except OSError as error:
        # A name that is too long, a folder that may not be looked into.
        raise AudioError(f"{path}: cannot be opened ({error.strerror})") from None
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: cannot be opened (permission denied)")


def _check_beginning(source: Source) -> None:
    """Keep what is of no kind that is read from libsndfile's parsers.

    An MP3 file may have anything in front of its first frame, and is then known by its name alone.
    """
    if isinstance(source, Path):
        if source.suffix.lower() == ".mp3":
            return
        with source.open("rb") as file:
            beginning = file.read(12)
    else:
        beginning = source.read(12)
        source.seek(0)
    frame = len(beginning) > 1 and beginning[0] == 0xFF and beginning[1] & 0xE0 == 0xE0
    aiff = beginning.startswith(b"FORM") and beginning[8:] in (b"AIFF", b"AIFC")
    if not (frame or aiff or beginning.startswith(_BEGINNINGS)):
        raise _unreadable(source, "no header that is known")


def _check_header(source: Source, file: soundfile.SoundFile) -> None:
    if file.format == "RAW":
        # Of some extensions libsndfile plays anything at all, as samples without a head.
        raise _unreadable(source, "no header")
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        raise AudioError(
            f"{name_of(source)}: at {file.samplerate} Hz; expected a rate from {LOWEST_RATE} to {HIGHEST_RATE} Hz"
        )
    if file.channels > MAX_CHANNELS:
        raise AudioError(f"{name_of(source)}: {file.channels} channels; expected at most {MAX_CHANNELS}")


def _unreadable(source: Source, reason: str) -> AudioError:
    reason = reason.strip().rstrip(".")
    if "does not exist" in reason:
        # So libsndfile calls an MP3 file in which it finds no frame.
        reason = "no sound found"
    return AudioError(
        f"{name_of(source)}: not readable as audio ({reason}); expected WAV, FLAC, Ogg Vorbis or Opus, or MP3"
    )


def check_end(source: Source, info: Info, read: int) -> None:
    """Refuse a file that ended before its header says.

    Args:
        read: samples a channel that were there.

    Raises:
        AudioError: a tenth of a second or more is missing.
    """
    if info.frames - read > _SHORT_SECONDS * info.rate:
        raise AudioError(f"{name_of(source)}: ends after {read} samples; expected {info.frames}, as its header says")


def probe(source: Source) -> Info:
    """The header of an audio file.

    Raises:
        AudioError: the file is missing or is not audio that can be used.
    """
    with _open(source) as file:
        return Info(file.samplerate, file.channels, file.frames, file.format, file.subtype)


def remarks(source: Source) -> dict[str, str]:
    """Title, artist and other texts of an audio file, by libsndfile's names for them; what the encoder says of itself left out.

    Raises:
        AudioError: the file is missing or is not audio that can be used.
    """
    with _open(source) as file:
        return {name: text for name, text in file.copy_metadata().items() if text and name != "software"}


def read(source: Source, start: int = 0, frames: int = -1) -> tuple[Signal, int]:
    """Samples from `start` on, and the file's rate in Hz.

    Args:
        start: first sample.
        frames: number of samples, -1 for all that follow.

    Shape:
        (channels, samples), float32.

    Raises:
        AudioError: the file is missing or is not audio, or all of one is asked for whose header does not say how much that is.
    """
    with _open(source) as file:
        if frames < 0 and file.frames > _MOST_FRAMES:
            raise AudioError(endless(source))
        if not file.seekable():
            # Some encodings (GSM 6.10 in WAV) can only be read in order.
            frames = max(file.frames - start, 0) if frames < 0 else frames
            file.read(start, dtype="float32", always_2d=True)
        elif start:
            file.seek(start)
        samples = file.read(frames, dtype="float32", always_2d=True)
        return np.ascontiguousarray(samples.T, dtype=np.float32), file.samplerate


def endless(source: Source) -> str:
    """What is said of a file of unknown length."""
    return f"{name_of(source)}: its header does not say how long it is; expected a file, not what went through a pipe"


def blocks(source: Source, frames: int = BLOCK_FRAMES) -> Iterator[Signal]:
    """The samples of a file in order, at most `frames` at a time, shape (channels, <=frames).

    Raises:
        AudioError: the file is missing or is not audio that can be used.
    """
    with _open(source) as file:
        while len(block := file.read(frames, dtype="float32", always_2d=True)):
            yield np.ascontiguousarray(block.T, dtype=np.float32)


def decode(data: bytes) -> tuple[Signal, int]:
    """The signal (channels, samples) and rate in Hz of an audio file's bytes.

    Raises:
        AudioError: the bytes are not audio.
    """
    return read(io.BytesIO(data))
