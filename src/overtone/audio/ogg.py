"""Ogg files as they are: Opus at 48 kHz whatever its head notes, and chained streams one after the other."""

from __future__ import annotations

import struct
from typing import BinaryIO

from mutagen.ogg import OggPage
from mutagen.ogg import error as OggError

from overtone.audio.spliced import Part, Plan, size_of

OPUS_RATE = 48_000
# Where an Opus head notes the rate of what was encoded (RFC 7845, section 5.1): "not the sample rate to use for playback".
_RATE, _RATE_END = 12, 16


def plan(file: BinaryIO) -> Plan:
    """How to read an Ogg file whole."""
    size = size_of(file)
    starts = _starts(file)
    pieces = tuple(_piece(file, start, stop) for start, stop in zip(starts, [*starts[1:], size], strict=True))
    if len(pieces) == 1 and len(pieces[0]) == 1:
        return Plan()
    notes = (f"{len(pieces)} Ogg streams in a chain, read one after the other",) if len(pieces) > 1 else ()
    return Plan(pieces, None, notes)


def _starts(file: BinaryIO) -> list[int]:
    """Where streams begin that follow one another; those that run beside each other begin with the first."""
    starts, inside = [0], False
    file.seek(0)
    while True:
        place = file.tell()
        try:
            page = OggPage(file)
        except (EOFError, OggError, OSError):
            return starts
        if page.first and inside:
            starts.append(place)
        inside = not page.first


def _piece(file: BinaryIO, start: int, stop: int) -> tuple[Part, ...]:
    """A stream as it is, or if it is Opus with the rate that it is decoded at in its head."""
    whole = (start, stop - start)
    file.seek(start)
    try:
        page = OggPage(file)
    except (EOFError, OggError):
        return (whole,)
    head = page.packets[0] if page.packets else b""
    if not head.startswith(b"OpusHead") or struct.unpack_from("<I", head.ljust(_RATE_END), _RATE) == (OPUS_RATE,):
        return (whole,)
    page.packets = [head[:_RATE] + struct.pack("<I", OPUS_RATE) + head[_RATE_END:], *page.packets[1:]]
    return page.write(), (file.tell(), stop - file.tell())
