"""AU and CAF files whose writers could not go back to say how much sound followed."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import BinaryIO

from overtone.audio.spliced import Plan, size_of

# Where an AU file keeps how many bytes of sound follow, and what says that nobody knows.
_AU_SIZE, _AU_UNKNOWN = 8, b"\xff\xff\xff\xff"
_CAF_HEAD, _CAF_CHUNK = 8, 12
# What libsndfile notes of a size that the file does not hold.
_SHORTER = re.compile(r"^\s*(?:SSND|Data Size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)


def au(file: BinaryIO) -> Plan:
    """How to read an AU file whole: one that says it holds nothing, and does."""
    size = size_of(file)
    file.seek(_AU_SIZE)
    if file.read(4) != bytes(4) or size <= _AU_SIZE + 4:
        return Plan()
    behind = (_AU_SIZE + 4, size - _AU_SIZE - 4)
    return Plan(
        (((0, _AU_SIZE), _AU_UNKNOWN, behind),), notes=("its header gives no length; all that follows was read",)
    )


def caf(file: BinaryIO) -> Plan:
    """How to read a CAF file whole: the size of its last chunk, the sound, may be -1 (Apple's specification, "Data Chunk")."""
    size, place = size_of(file), _CAF_HEAD
    while place + _CAF_CHUNK <= size:
        file.seek(place)
        name, length = struct.unpack(">4sq", file.read(_CAF_CHUNK))
        start = place + _CAF_CHUNK
        if name == b"data" and length <= 0:
            told = struct.pack(">q", size - start)
            notes = () if length else ("its header gives no length; all that follows was read",)
            return Plan((((0, place + 4), told, (start, size - start)),), notes=notes)
        if length < 0:
            break
        place = start + length
    return Plan()


def notes(log: str) -> Sequence[str]:
    """A sentence about sound that an AIFF, AU or W64 file promises and does not hold, by libsndfile's log of its header."""
    found = _SHORTER.search(log)
    said, there = (int(number) for number in found.groups()) if found else (0, 0)
    if said <= there or said >= 2**31 - 1:
        return ()
    return (f"its header says {said} bytes of sound, {there} are there and were read",)
