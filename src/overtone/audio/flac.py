"""FLAC files as they are: joined ones, and those whose writer could not go back to say how long they became."""

from __future__ import annotations

import itertools
import mmap
import re
from pathlib import Path
from typing import Any, BinaryIO

from mutagen import MutagenError
from mutagen.flac import FLAC

from overtone.audio.channels import USUAL
from overtone.audio.libsndfile import decodable, opened
from overtone.audio.spliced import Plan, size_of

# A stream begins with its name and the block that describes it (RFC 9639, section 8.2).
_BEGINNING = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
# That block holds the number of samples in 36 bits, the first 4 of them in the lower half of this byte.
_LENGTH, _END = 21, 26
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
# The last frame begins within so many bytes of the end, but for tags behind it.
_TAIL = 1 << 17
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
        there = said
        rest = (start + _END, stop - start - _END)
        if not said or said != _last_sample(file, start, stop):
            # Less than was promised is damage, which is found when it is read.
            there = max(said, decodable(opened(file, (_with_length(head, 0), rest)), most))
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


def _last_sample(file: BinaryIO, start: int, stop: int) -> int | None:
    """The number of samples by the last frame's own header (RFC 9639, section 9.1); None where none is found."""
    file.seek(start + 8)
    size = int.from_bytes(file.read(2), "big")
    begin = max(start, stop - _TAIL)
    file.seek(begin)
    tail = file.read(stop - begin)
    for found in reversed(list(_SYNC.finditer(tail))):
        head = tail[found.start() : found.start() + 16].ljust(16, b"\x00")
        number, place = _coded(head, 4)
        code = head[2] >> 4
        plain = {1: 192} | {n: 576 << n - 2 for n in range(2, 6)} | {n: 256 << n - 8 for n in range(8, 16)}
        width = {6: 1, 7: 2}.get(code, 0)
        length = plain.get(code) or int.from_bytes(head[place : place + width], "big") + 1
        place += width + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
        if number is not None and code and _crc8(head[:place]) == head[place]:
            return length + (number if head[1] & 1 else number * size)
    return None


def _coded(head: bytes, place: int) -> tuple[int | None, int]:
    """A number coded as UTF-8 would code it, and where it ends."""
    ones = 8 - (head[place] ^ 0xFF).bit_length()
    if ones == 0:
        return head[place], place + 1
    if ones == 1 or ones > 7:
        return None, place
    number = head[place] & (0x7F >> ones)
    for byte in head[place + 1 : place + ones]:
        number = number << 6 | byte & 0x3F
    return number, place + ones


def _crc8(data: bytes) -> int:
    register = 0
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register << 1 ^ (0x07 if register & 0x80 else 0)) & 0xFF
    return register


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
