"""Encoded audio from standard input and to standard output."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from overtone import audio
from overtone.audio import AudioError, containers
from overtone.bulk import work
from overtone.bulk.work import Progress, Recipe


@contextmanager
def spooled(stream: BinaryIO) -> Iterator[Path]:
    """What a stream holds, as a file: the band is estimated over the whole, and most containers are not read in order.

    Raises:
        AudioError: it holds nothing.
    """
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder, "stdin")
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file)
        if not path.stat().st_size:
            raise AudioError("stdin: empty; expected the bytes of an audio file")
        yield path


def send(
    recipe: Recipe, source: Path, stream: BinaryIO, format: str | None = None, progress: Progress | None = None
) -> None:
    """Enhance a file into a stream: WAV, Ogg Vorbis and Opus while it is computed, others when they are whole.

    FLAC and MP3 say in their first bytes what is known only in the end: their length, the encoder's delay.

    Args:
        format: extension without its dot, None for the source's own container.

    Raises:
        AudioError: the source is not usable audio, or the format cannot be written.
    """
    info = audio.probe(source)
    name = Path(f"stdout.{format}" if format else f"stdout{containers.extension(info)}")
    rate = recipe.rate or work.upsampler(recipe).rate
    length = audio.resampled_length(info.frames, info.rate, rate)
    kind, subtype = audio.container_for(name, info, length)
    forward = _Forward(stream)
    if kind in containers.WAVE:
        # libsndfile writes the length last.
        forward.write(containers.wav_header(rate, info.channels, length, subtype))
        forward = _Forward(stream)
        _write(recipe, source, audio.Info(rate, info.channels, length, "RAW", subtype), forward, {}, progress)
    elif kind == "OGG":
        told = audio.remarks(source)
        _write(recipe, source, audio.Info(rate, info.channels, length, kind, subtype), forward, told, progress)
    else:
        with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
            work.write(recipe, source, Path(folder, name), progress)
            with Path(folder, name).open("rb") as file:
                shutil.copyfileobj(file, stream)
    stream.flush()


def _write(
    recipe: Recipe,
    source: Path,
    target: audio.Info,
    stream: _Forward,
    remarks: Mapping[str, str],
    progress: Progress | None,
) -> None:
    with audio.Writer(
        cast(BinaryIO, stream), target.rate, target.channels, target.format, target.subtype, remarks
    ) as out:
        for block in work.blocks(recipe, source, progress):
            out.write(block)


class _Forward(io.RawIOBase):
    """Passes a file on as it grows; what is written once more, over what has gone, is dropped."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0
        self._end = 0

    def write(self, data: object) -> int:
        piece = bytes(cast(bytes, data))
        new = piece[max(self._end - self._position, 0) :]
        self._stream.write(new)
        self._position += len(piece)
        self._end = max(self._end, self._position)
        return len(piece)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        return b""

    def readinto(self, buffer: object) -> int:
        return 0
