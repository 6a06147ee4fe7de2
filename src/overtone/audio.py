"""Read and write audio files, resample, stream blocks; the errors of bad audio.

Signals are float32 arrays of shape (channels, samples), full scale 1.0.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from overtone import mp3
from overtone.errors import OvertoneError

Signal = npt.NDArray[np.float32]
Source = Path | BinaryIO

# libsndfile's Vorbis encoder overflows the stack on one long write.
BLOCK_FRAMES = 65_536
EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"})
# Subtypes that are a bit depth, not an encoder: what a target may take over from its source.
_DEPTHS = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
# What a disk says that takes nothing: full, over quota, read-only, not this user's, broken.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
# Bytes; libraries write in blocks, and stop where the next one does not fit.
_NEXT_TO_NOTHING = 1 << 20
# What is read: sound at a rate that recordings are made at, of so many channels, its float samples of full scale 1.0. A file of
# 1 Hz would grow 48,000 fold; no recording reaches this level, 16-bit integers kept in floats do.
LOWEST_RATE, HIGHEST_RATE = 2_000, 768_000
MAX_CHANNELS = 64
MAX_LEVEL = 64.0
# What libsndfile says of a FLAC stream whose writer could not go back to its head is far above.
_MOST_FRAMES = 2**48
# As much as a file may lack of what its head promises: an encoder of MP3 leaves less.
_SHORT_SECONDS = 0.1
# What the files that are read begin with. libsndfile knows twenty kinds more, whose old parsers nobody's recordings need.
_BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"riff", b".snd", b"dns.", b"caff", b"fLaC", b"OggS", b"ID3")
_FORMATS = {".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS"), ".mp3": ("MP3", "MPEG_LAYER_III")}


class AudioError(OvertoneError):
    """Audio that cannot be used; the message names the file and what was expected."""


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


def name_of(source: Source) -> str:
    """What messages call a source: a file's path, or just audio."""
    return str(source) if isinstance(source, Path) else "audio"


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


def check_samples(name: str, samples: Signal) -> None:
    """Refuse samples that are not audio of full scale 1.0.

    Args:
        name: what the message calls them.

    Raises:
        AudioError: NaN or infinite samples, or a peak far above full scale.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise AudioError(f"{name}: holds NaN or infinite samples; expected finite audio")
    if peak > MAX_LEVEL:
        raise AudioError(
            f"{name}: holds samples of up to {peak:g}; expected full scale 1.0: divide 16-bit samples by 32768"
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


def container(path: Path, subtype: str | None = None) -> tuple[str, str]:
    """libsndfile's format and subtype for a file name; `subtype` is kept if it is a bit depth that the format can hold.

    Raises:
        AudioError: the extension is not one that can be written.
    """
    extension = path.suffix.lower()
    if extension in _FORMATS:
        return _FORMATS[extension]
    name = {".aif": "AIFF", ".wave": "WAV"}.get(extension, extension[1:].upper())
    if name not in soundfile.available_formats():
        raise AudioError(
            f"{path}: cannot write {extension or 'a file without extension'}; expected .wav, .flac, .ogg, .opus or .mp3"
        )
    if subtype not in _DEPTHS or not soundfile.check_format(name, subtype):
        subtype = "PCM_16" if soundfile.check_format(name, "PCM_16") else str(soundfile.default_subtype(name))
    return name, subtype


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends, and is removed if it fails.

    Raises:
        OSError: the disk is full or refuses to be written to; `filename` is `path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A part of the name alone: with the temporary one's own letters, a whole one could be too long.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:32]}.", suffix=path.suffix)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except Exception as error:
        if told := unwritable(error, path, temporary):
            raise told from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(error: Exception, path: Path, temporary: Path) -> OSError | None:
    """What kept `path` from being written, by its name, if that was the disk; None if it was something else.

    Errors of writing name no file, and those of libraries (libsndfile, torch, safetensors) often not even the reason.

    Args:
        temporary: file or folder that was to take its place.
    """
    if isinstance(error, OSError) and error.errno in REFUSALS:
        where = str(error.filename or path)
        if where.startswith(str(temporary)):
            where = f"{path}{where.removeprefix(str(temporary))}"
        return OSError(error.errno, os.strerror(error.errno), where)
    if isinstance(error, OSError | OvertoneError) or shutil.disk_usage(path.parent).free >= _NEXT_TO_NOTHING:
        return None
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class Writer:
    """An audio file written block by block; blocks are (channels, samples).

    Args:
        remarks: title, artist and other texts, by libsndfile's names for them; those that the format cannot hold are dropped.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        rate: int,
        channels: int,
        format: str,
        subtype: str,
        remarks: Mapping[str, str] | None = None,
    ) -> None:
        try:
            self._file = soundfile.SoundFile(
                target, "w", samplerate=rate, channels=channels, format=format, subtype=subtype
            )
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{name_of(target)}: {format}/{subtype} cannot hold {channels} channels at {rate} Hz ({error.error_string})"
            ) from None
        for name, text in (remarks or {}).items():
            with suppress(soundfile.LibsndfileError):
                setattr(self._file, name, text)

    def write(self, block: Signal) -> None:
        for start in range(0, block.shape[1], BLOCK_FRAMES):
            self._file.write(np.ascontiguousarray(block[:, start : start + BLOCK_FRAMES].T))

    def close(self) -> None:
        self._file.close()

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


def decode(data: bytes) -> tuple[Signal, int]:
    """The signal (channels, samples) and rate in Hz of an audio file's bytes.

    Raises:
        AudioError: the bytes are not audio.
    """
    return read(io.BytesIO(data))


def resampled_length(frames: int, source: int, target: int) -> int:
    """Samples that `frames` samples at `source` Hz become at `target` Hz: the nearest whole number."""
    return (2 * frames * target + source) // (2 * source)


def fit_length(signal: Signal, frames: int) -> Signal:
    """Cut or zero-pad the end of a signal (channels, samples) to `frames` samples."""
    short = frames - signal.shape[1]
    return signal[:, :frames] if short <= 0 else np.pad(signal, ((0, 0), (0, short)))


def resample(signal: Signal, source: int, target: int) -> Signal:
    """Band-limited resampling (soxr, very high quality, linear phase) of (channels, samples), aligned to the sample.

    Shape:
        (channels, resampled_length(samples, source, target)).
    """
    if source == target:
        return signal
    out = soxr.resample(np.ascontiguousarray(signal.T), source, target, quality="VHQ").T
    return np.ascontiguousarray(fit_length(out, resampled_length(signal.shape[1], source, target)), dtype=np.float32)
