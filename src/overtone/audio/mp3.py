"""MP3 files as they are: their frames are counted by decoding them, since heads may be wrong, say nothing, or be missing.

libsndfile reads no sample beyond what the head (a frame without sound that LAME began to write) says, and without one
beyond what it guesses from the first frames: of joined files it would read the first, of one that begins loud a part.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Generator
from contextlib import suppress
from typing import BinaryIO

from mutagen.mp3 import HeaderNotFoundError, MPEGFrame, MPEGInfo, iter_sync

from overtone.audio.libsndfile import BLOCK, counted, opened
from overtone.audio.samples import AudioError
from overtone.audio.spliced import Part, Plan, size_of

# By the bits of a head's flags: number of frames, of bytes, table of contents, quality.
_FIELDS = {1: 4, 2: 4, 4: 100, 8: 4}
_ENDLESS = 2**30
# Without a head a decoder estimates by the first frame, whose bit rate may be 40 times that of others.
_CLAIMED = 64
# Where the last frames are looked for, and how many must follow one another to be frames.
_TAIL, _CHAIN = 16_384, 3
# Samples that a decoder is late besides: LAME counts them as a part of its padding.
_DECODER_DELAY = 529
# Where LAME's part of a head keeps delay and padding, of 12 bits each.
_LAME_DELAYS = 21


def plan(file: BinaryIO, name: str, most: float) -> Generator[int, None, Plan]:
    """How to read an MP3 file whole, found in steps.

    Args:
        name: what messages call it.
        most: seconds after which no more are counted.

    Yields:
        Samples counted so far.

    Raises:
        AudioError: it ends with frames of another rate or number of channels, which no decoder goes on with.
        soundfile.LibsndfileError: it is none.
    """
    size = size_of(file)
    try:
        start = MPEGInfo(file).frame_offset
    except (HeaderNotFoundError, OSError):
        # Free formats: only the decoder knows their frames.
        return Plan()
    file.seek(start)
    frame = MPEGFrame(file)
    behind = file.tell()
    first = _bytes(file, start, behind)
    last = _last_frame(file, size)
    if last is not None and _kind(last) != _kind(frame):
        raise AudioError(
            f"{name}: holds recordings one after the other, of {frame.channels} channels at {frame.sample_rate} Hz and "
            f"{last.channels} at {last.sample_rate} Hz; expected one: take it apart first"
        )
    tag = max(first.find(b"Xing"), first.find(b"Info"))
    head, delays, said = _endless(first, tag) if tag >= 0 else (b"", (0, 0), 0)
    if tag < 0 and b"VBRI" not in first:
        behind = start
    parts: tuple[Part, ...] = (head, (behind, size - behind))
    claimed = 1 if head else _CLAIMED
    with opened(file, parts, claimed) as whole:
        count, rate = (yield from counted(whole, most)), whole.samplerate
    promised = said * (1_152 if frame.version == 1 else 576)
    # Junk behind the last frame costs the block that it is met in.
    if said and 0 <= promised - delays[0] - count < BLOCK:
        return Plan()
    seconds = (promised - sum(delays)) / rate, count / rate
    notes = (f"its header says {seconds[0]:.2f} s, {seconds[1]:.2f} s are there and were read",) if said else ()
    return Plan((parts,), count, notes, claimed=claimed)


def _kind(frame: MPEGFrame) -> tuple[object, ...]:
    return frame.version, frame.sample_rate, frame.channels


def _last_frame(file: BinaryIO, size: int) -> MPEGFrame | None:
    """The last of several frames that follow one another near the end of a file."""
    tail = io.BytesIO(_bytes(file, max(0, size - _TAIL), size))
    for _ in iter_sync(tail, _TAIL):
        chain: list[MPEGFrame] = []
        with suppress(HeaderNotFoundError):
            while True:
                chain.append(MPEGFrame(tail))
        if len(chain) > _CHAIN:
            return chain[-1]
    return None


def _bytes(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def _endless(first: bytes, tag: int) -> tuple[bytes, tuple[int, int], int]:
    """A head that promises more frames than any file has; samples that decoders leave out at both ends; the frames promised."""
    (flags,) = struct.unpack_from(">I", first, tag + 4)
    place, fields = tag + 8, {}
    for bit, length in _FIELDS.items():
        if flags & bit:
            fields[bit] = first[place : place + length]
            place += length
    said = int.from_bytes(fields.get(1, b""), "big")
    fields[1] = struct.pack(">I", _ENDLESS)
    # Told fewer bytes than there are, the decoder would complain.
    fields.pop(2, None)
    told = struct.pack(">I", sum(fields)) + b"".join(fields[bit] for bit in sorted(fields))
    head = (first[: tag + 4] + told + first[place:]).ljust(len(first), b"\x00")[: len(first)]
    field = int.from_bytes(first[place + _LAME_DELAYS : place + _LAME_DELAYS + 3], "big")
    delay, padding = field >> 12, field & 0xFFF
    if not field:
        return head, (0, 0), said
    return head, (delay + _DECODER_DELAY, max(padding - _DECODER_DELAY, 0)), said
