"""FLAC files as they are: joined ones, and those whose writer could not go back to say how long they became."""

from __future__ import annotations

import itertools
import mmap
import re
from pathlib import Path
from typing import Any, BinaryIO

import soundfile
from mutagen import MutagenError
from mutagen.flac import FLAC

from overtone.audio.channels import USUAL
from overtone.audio.libsndfile import decodable, opened
from overtone.audio.spliced import Plan, size_of

# A stream begins with its name and the block that describes it (RFC 9639, section 8.2).
_BEGINNING = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
# That block holds the number of samples in 36 bits, the first 4 of them in the lower half of this byte.
_LENGTH, _END = 21, 26
# A Vorbis comment that programs agree on.
MASK = "waveformatextensible_channel_mask"


def plan(file: BinaryIO, most: float) -> Plan:
    """How to read a FLAC file whole.

    Args:
        most: seconds after which no more are counted.

    Raises:
        soundfile.LibsndfileError: it is none.
    """
    size = size_of(file)
    starts = [*_starts(file, size), size]
    pieces = []
    told = found = 0
    for start, stop in itertools.pairwise(starts):
        file.seek(start)
        head = file.read(_END)
        said = int.from_bytes(head[_LENGTH:], "big") & (2**36 - 1)
        rest = (start + _END, stop - start - _END)
        # Less than was promised is damage, which is found when it is read.
        there = max(said, _counted(opened(file, (_with_length(head, 0), rest)), said, most))
        pieces.append((_with_length(head, there), rest))
        told, found = told + (said or there), found + there
        rate = int.from_bytes(head[18:21], "big") >> 4 or 1
    if len(pieces) == 1 and found == told and said:
        return Plan(mask=_mask(file))
    notes = []
    if len(pieces) > 1:
        notes.append(f"{len(pieces)} FLAC files joined, read one after the other")
    if found != told:
        notes.append(f"its header says {told / rate:.2f} s, {found / rate:.2f} s are there and were read")
    return Plan(tuple(pieces), None, tuple(notes), _mask(file))


def _starts(file: BinaryIO, size: int) -> list[int]:
    """Where FLAC streams begin."""
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return [found.start() for found in _BEGINNING.finditer(mapped)] or [0]
    except (OSError, AttributeError, ValueError):
        # Not a file of this machine.
        file.seek(0)
        return [found.start() for found in _BEGINNING.finditer(file.read(size))] or [0]


def _with_length(head: bytes, frames: int) -> bytes:
    field = int.from_bytes(head[_LENGTH:_END], "big") >> 36 << 36 | frames
    return head[:_LENGTH] + field.to_bytes(5, "big")


def _counted(file: soundfile.SoundFile, said: int, most: float) -> int:
    """Samples a channel that can be decoded, counted from the last one that the header promises."""
    try:
        first = file.seek(max(said - 1, 0))
    except soundfile.LibsndfileError:
        first = file.seek(0)
    return first + decodable(file, most)


def _mask(file: BinaryIO) -> int:
    """Which loudspeakers the channels are, by the tag that tells where they are not the usual ones."""
    file.seek(0)
    try:
        found = FLAC(file)
    except (MutagenError, ValueError):
        return 0
    count = found.info.channels
    if count < 3:
        return 0
    comments: Any = found.tags or ()
    told = [text for name, text in comments if name.lower() == MASK]
    try:
        return int(told[0], 16)
    except (ValueError, IndexError):
        return USUAL.get(count, 0)


def set_mask(path: Path, mask: int) -> None:
    """Say in a FLAC file which loudspeakers its channels are, where they are not the usual ones of so many."""
    file = FLAC(path)
    if file.tags is None:
        file.add_tags()
    file[MASK] = f"0x{mask:04X}"
    file.save()
