"""Audio files read: their headers, texts, excerpts, and all of them block by block."""

from __future__ import annotations

import functools
import io
import math
import os
import weakref
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import soundfile
from mutagen.mp3 import skip_id3

from overtone.audio import flac, media, mp3, ogg, sizes, wav
from overtone.audio.decoding import Decoder, SoundFiles
from overtone.audio.libsndfile import result_of
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
from overtone.audio.spliced import Plan, Spliced, size_of

# Of what libsndfile reads, and with the extra `media` FFmpeg.
EXTENSIONS = media.EXTENSIONS | {
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".caf", ".w64", ".rf64"),
}
# What libsndfile says of a stream whose end is not known is far above.
_MOST_FRAMES = 2**48
# As much as a file may lack of what its head promises: an encoder of MP3 leaves less.
_SHORT_SECONDS = 0.1
# What the files that are read begin with. libsndfile knows twenty kinds more, whose old parsers nobody's recordings need.
_BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"riff", b".snd", b"dns.", b"caff", b"fLaC", b"OggS", b"ID3")


@dataclass(frozen=True)
class Info:
    """What a file holds: `rate` in Hz, `frames` samples a channel, libsndfile's (or FFmpeg's) format and subtype names.

    `mask` says which channel is which loudspeaker's (see `channels`), 0 where nobody does. `notes` are sentences about what
    the file's own header says otherwise, and what was left out.
    """

    rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    mask: int = 0
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    @property
    def length_known(self) -> bool:
        """Whether anything says how long the file is; an Ogg stream without its last page does not."""
        return self.frames <= _MOST_FRAMES


@contextmanager
def _open(source: Source, most: float = math.inf) -> Iterator[tuple[Decoder, Plan]]:
    """A file opened for reading; whatever a library raises inside becomes an AudioError."""
    if isinstance(source, Path):
        _check_file(source)
    name = name_of(source)
    with _explained(source), ExitStack() as stack:
        raw = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        beginning = _beginning(source, raw)
        plan = _planned(source, raw, beginning, most)
        if media.is_media(beginning):
            decoder: Decoder = media.Media(raw, name, plan.frames)
        else:
            # By name where there is one, as bytes since it may be no UTF-8: libsndfile then reads without us in between.
            whole: Any = os.fsencode(source) if isinstance(source, Path) else Spliced(raw, [(0, size_of(raw))])
            pieces = [Spliced(raw, parts, plan.claimed) for parts in plan.pieces]
            decoder = SoundFiles(pieces or [whole], name, plan.frames)
        stack.enter_context(closing(decoder))
        _check_header(source, decoder)
        yield decoder, plan


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Whatever a library raises inside becomes an AudioError."""
    try:
        yield
    except (soundfile.LibsndfileError, RuntimeError, TypeError, MemoryError) as error:
        raise _unreadable(source, getattr(error, "error_string", str(error))) from None


def _beginning(source: Source, raw: BinaryIO) -> bytes:
    """A file's first bytes; keeps what is of no kind that is read from the libraries' parsers.

    An MP3 file may have anything in front of its first frame, and is then known by its name alone.
    """
    raw.seek(0)
    beginning = raw.read(12)
    raw.seek(0)
    named = isinstance(source, Path) and source.suffix.lower() == ".mp3"
    frame = len(beginning) > 1 and beginning[0] == 0xFF and beginning[1] & 0xE0 == 0xE0
    aiff = beginning.startswith(b"FORM") and beginning[8:] in (b"AIFF", b"AIFC")
    if not (named or frame or aiff or beginning.startswith(_BEGINNINGS) or media.is_media(beginning)):
        raise _unreadable(source, "no header that is known")
    return beginning


# Plans of files by name, size and time, and of those without a name: counting takes seconds an hour of sound.
_STREAMS: weakref.WeakKeyDictionary[Any, tuple[int, Plan]] = weakref.WeakKeyDictionary()


def _planned(source: Source, raw: BinaryIO, beginning: bytes, most: float) -> Plan:
    if isinstance(source, Path):
        found = source.stat()
        return _planned_by_name(source, (found.st_size, found.st_mtime_ns, found.st_ino), beginning, most)
    size, plan = _STREAMS.get(source, (-1, Plan()))
    if size != size_of(raw):
        plan = _plan(raw, name_of(source), beginning, most)
        _STREAMS[source] = size_of(raw), plan
    return plan


@functools.lru_cache(maxsize=256)
def _planned_by_name(path: Path, stamp: tuple[int, ...], beginning: bytes, most: float) -> Plan:  # noqa: ARG001 -- the cache goes by it
    with path.open("rb") as raw:
        return _plan(raw, str(path), beginning, most, path.suffix.lower() == ".mp3")


def counting(source: BinaryIO, most: float = math.inf) -> Iterator[int]:
    """The counting that `probe` would do, in steps between which others can compute; it then knows the result.

    Args:
        source: an open file.
        most: as of `probe`.

    Yields:
        Samples a channel counted so far; nothing for a file whose header is enough.

    Raises:
        AudioError: the file is not audio that can be used.
    """
    with _explained(source):
        plan = yield from _planning(source, name_of(source), _beginning(source, source), most)
    _STREAMS[source] = size_of(source), plan


def _plan(raw: BinaryIO, name: str, beginning: bytes, most: float, named_mp3: bool = False) -> Plan:
    return result_of(_planning(raw, name, beginning, most, named_mp3))


def _planning(
    raw: BinaryIO, name: str, beginning: bytes, most: float, named_mp3: bool = False
) -> Generator[int, None, Plan]:
    """How to read a file whole, by what it begins with; what takes long is done in steps."""
    if media.is_media(beginning):
        with closing(media.Media(raw, name, most=most)) as found:
            return Plan(frames=found.frames, notes=found.notes)
    if beginning.startswith((b"RIFF", b"RIFX", b"RF64")) and beginning[8:] == b"WAVE":
        return wav.plan(raw, name)
    if beginning.startswith(b"OggS"):
        return ogg.plan(raw)
    if beginning.startswith(b".snd"):
        return sizes.au(raw)
    if beginning.startswith(b"caff"):
        return sizes.caf(raw)
    raw.seek(0)
    skip_id3(raw)
    if raw.read(4) == b"fLaC":
        return flac.plan(raw, most)
    if named_mp3 or beginning.startswith((b"ID3", b"\xff")):
        return (yield from mp3.plan(raw, name, most))
    return Plan()


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


def _check_header(source: Source, file: Decoder) -> None:
    if file.format == "RAW":
        # Of some extensions libsndfile plays anything at all, as samples without a head.
        raise _unreadable(source, "no header")
    if not LOWEST_RATE <= file.rate <= HIGHEST_RATE:
        raise AudioError(
            f"{name_of(source)}: at {file.rate} Hz; expected a rate from {LOWEST_RATE} to {HIGHEST_RATE} Hz"
        )
    if file.channels > MAX_CHANNELS:
        raise AudioError(f"{name_of(source)}: {file.channels} channels; expected at most {MAX_CHANNELS}")


def _unreadable(source: Source, reason: str) -> AudioError:
    reason = reason.strip().rstrip(".")
    if "does not exist" in reason:
        # So libsndfile calls an MP3 file in which it finds no frame.
        reason = "no sound found"
    return AudioError(
        f"{name_of(source)}: not readable as audio ({reason}); expected WAV, FLAC, Ogg Vorbis or Opus, MP3, M4A, MP4 or WebM"
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


def probe(source: Source, most: float = math.inf) -> Info:
    """What an audio file holds, as it is: counted where its header does not say so, or says it wrongly.

    Args:
        most: seconds after which no more are counted; `frames` then are more than that.

    Raises:
        AudioError: the file is missing or is not audio that can be used.
    """
    with _open(source, most) as (file, plan):
        mask = plan.mask or file.mask
        notes = tuple(dict.fromkeys((*plan.notes, *file.notes)))
        return Info(file.rate, file.channels, file.frames, file.format, file.subtype, mask, notes)


def remarks(source: Source) -> dict[str, str]:
    """Title, artist and other texts of an audio file, by libsndfile's names for them; what the encoder says of itself left out.

    Raises:
        AudioError: the file is missing or is not audio that can be used.
    """
    with _open(source) as (file, _):
        return {name: text for name, text in file.texts().items() if text and name != "software"}


def read(source: Source, start: int = 0, frames: int = -1) -> tuple[Signal, int]:
    """Samples from `start` on, and the file's rate in Hz.

    Args:
        start: first sample.
        frames: number of samples, -1 for all that follow.

    Shape:
        (channels, samples), float32; channels in the order of their mask.

    Raises:
        AudioError: the file is missing or is not audio.
    """
    with _open(source) as (file, _):
        if start:
            file.seek(start)
        if frames < 0 and file.frames > _MOST_FRAMES:
            raise AudioError(endless(source))
        left = max(file.frames - start, 0)
        return file.read(left if frames < 0 else min(frames, left)), file.rate


def endless(source: Source) -> str:
    """What is said of a file of unknown length."""
    return f"{name_of(source)}: nothing says how long it is; expected a whole file"


def blocks(source: Source, frames: int = BLOCK_FRAMES) -> Iterator[Signal]:
    """The samples of a file in order, at most `frames` at a time, shape (channels, <=frames).

    Raises:
        AudioError: the file is missing or is not audio that can be used.
    """
    with _open(source) as (file, _):
        while (block := file.read(frames)).shape[1]:
            yield block


def decode(data: bytes) -> tuple[Signal, int]:
    """The signal (channels, samples) and rate in Hz of an audio file's bytes.

    Raises:
        AudioError: the bytes are not audio.
    """
    return read(io.BytesIO(data))
