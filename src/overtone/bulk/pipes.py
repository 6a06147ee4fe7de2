"""Encoded audio from standard input or a pipe, and to standard output or a pipe."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from overtone import audio
from overtone.audio import AudioError, containers, sending
from overtone.bulk import work
from overtone.bulk.work import Progress, Recipe


def is_pipe(path: Path) -> bool:
    """Whether something is there that is written into and read from, never replaced: a pipe, a terminal, `/dev/null`."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode))


@contextmanager
def spooled(stream: BinaryIO, name: str) -> Iterator[Path]:
    """What a stream holds, as a file: the band is estimated over the whole, and most containers are not read in order.

    Args:
        name: what messages call it.

    Raises:
        AudioError: it holds nothing.
    """
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder, "stdin")
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file)
        if not path.stat().st_size:
            raise AudioError(f"{name}: empty; expected the bytes of an audio file")
        yield path


def send(
    recipe: Recipe, source: Path, stream: BinaryIO, format: str | None = None, progress: Progress | None = None
) -> tuple[str, list[str]]:
    """Enhance a file into a stream: WAV, Ogg Vorbis and Opus while it is computed, others when they are whole.

    FLAC, MP3 and M4A say in their first bytes what is known only in the end: their tags, the encoder's delay.

    Args:
        format: extension without its dot, None for the source's own container.

    Returns:
        what was done and why, and sentences about what was read otherwise than the source's header says, or was left out.

    Raises:
        AudioError: the source is not usable audio, or the format cannot be written.
        BrokenPipeError: nobody reads any more.
    """
    info = audio.probe(source)
    name = Path(f"stdout.{format}" if format else f"stdout{containers.extension(info)}")
    rate = recipe.rate or work.upsampler(recipe).rate
    length = audio.resampled_length(info.frames, info.rate, rate)
    kind, subtype = audio.container_for(name, info, length)
    if kind in containers.WAVE or kind == "OGG":
        texts = audio.remarks(source) if kind == "OGG" else None
        encoder = sending.Encoder(name.suffix[1:], rate, info.channels, length, subtype, info.mask, texts)
        treatment = work.treatment_of(recipe, source, info)
        for piece in sending.encoded(encoder, work.blocks(recipe, source, info, treatment, progress)):
            stream.write(piece)
        stream.flush()
        return work.described(recipe, treatment), list(info.notes)
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        written = work.write(recipe, source, Path(folder, name), progress)
        with Path(folder, name).open("rb") as file:
            shutil.copyfileobj(file, stream)
    stream.flush()
    return written
