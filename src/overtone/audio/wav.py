"""WAV files as they are: sizes that are zero, all ones, too small or wrapped at 4 GiB, several `data` chunks, any order.

Recorders that lost power leave sizes of zero, programs that write into a pipe all ones, and beyond 4 GiB only the lower 32
bits are left. Such files get a head of their own, of the chunks that they have; others are read as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from overtone.audio.samples import AudioError
from overtone.audio.spliced import Plan, size_of

UNKNOWN = 2**32 - 1
# What is written in front of samples besides their format: what the compressed kinds count, and texts.
_KEPT = (b"fact", b"LIST")
_MOST_KEPT = 1 << 20
_MOST_FORMAT = 1_024
_FILES = (b"RIFF", b"RIFX", b"RF64")
# What stands where the size was to come when a writer ended before it knew.
_UNFINISHED = (0, UNKNOWN, UNKNOWN - 1, 2**31 - 1, *range(UNKNOWN - 44, UNKNOWN - 34))


def plan(file: BinaryIO, name: str) -> Plan:
    """How to read a WAV file whole.

    Args:
        name: what messages call it.

    Raises:
        AudioError: it holds sound of two formats.
    """
    return _Wave(file, name).plan()


class _Wave:
    """A walk over a file's chunks: what it found, and what was wrong with it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name, self._size = file, name, size_of(file)
        self._order = ">" if self._read(0, 4) == b"RIFX" else "<"
        self._format = b""
        self._kept: list[bytes] = []
        self._sound: list[tuple[int, int]] = []
        self._notes: list[str] = []
        self._mended = False

    def plan(self) -> Plan:
        for chunk, start, length in self._chunks():
            if chunk == b"fmt ":
                self._take_format(self._read(start, min(length, _MOST_FORMAT)))
            elif chunk == b"data":
                self._sound.append((start, length))
            elif chunk in _KEPT and length < _MOST_KEPT:
                padded = self._read(start, length) + b"\x00" * (length % 2)
                self._kept.append(chunk + struct.pack(f"{self._order}I", length) + padded)
        sound = [part for part in self._sound if part[1]]
        if len(sound) > 1:
            self._notes.append(f"{len(sound)} parts of sound in it, read one after the other")
        self._mended |= len(self._sound) > 1
        if not (self._mended and self._format and sound):
            return Plan(notes=tuple(self._notes))
        chunks = b"fmt " + struct.pack(f"{self._order}I", len(self._format)) + self._format
        head = header(chunks + b"".join(self._kept), sum(length for _, length in sound), self._order)
        return Plan(((head, *sound),), None, tuple(self._notes))

    def _read(self, place: int, length: int) -> bytes:
        self._file.seek(place)
        return self._file.read(length)

    def _number(self, place: int) -> int:
        return int(struct.unpack(f"{self._order}I", self._read(place, 4).ljust(4, b"\x00"))[0])

    def _take_format(self, form: bytes) -> None:
        if self._format and form[:16] != self._format[:16]:
            raise AudioError(f"{self._name}: holds sound of two formats; expected one")
        # libsndfile wants it once, and before the sound.
        self._mended |= bool(self._format or self._sound)
        self._format = self._format or form + b"\x00" * (len(form) % 2)

    def _chunks(self) -> Iterator[tuple[bytes, int, int]]:
        """Name, first byte and length of each chunk, lengths as they must have been meant."""
        place, inside, wide = 0, self._size, 0
        while place + 8 <= self._size:
            chunk, length, start = self._read(place, 4), self._number(place + 4), place + 8
            if chunk in _FILES and self._read(start, 4) == b"WAVE":
                # A second one is a file that was joined to the first.
                inside = self._size if length in _UNFINISHED else start + length
                place = start + 4
                continue
            if not _is_name(chunk):
                return
            if chunk == b"ds64":
                (wide,) = struct.unpack("<Q", self._read(start + 8, 8).ljust(8, b"\x00"))
            if chunk == b"data":
                length = self._meant(start, wide or length if length == UNKNOWN else length, inside)
            yield chunk, start, min(length, self._size - start)
            place = start + length
            # Some writers forget to pad odd chunks.
            place += bool(length % 2 and not self._begins_chunk(place))

    def _meant(self, start: int, said: int, inside: int) -> int:
        """The bytes that a `data` chunk holds, whatever it says."""
        rest = self._size - start
        if said in _UNFINISHED or said >= 2**63:
            if said == 0 and self._chunks_follow(start):
                return 0
            self._mended = True
            if said == 0:
                self._notes.append(f"its header gives no length; the {self._seconds(rest):.2f} s that follow were read")
            return rest
        if said > rest:
            # libsndfile reads what is there.
            self._tell(said, rest)
            return rest
        if self._chunks_follow(start + said) or self._chunks_follow(start + said + said % 2):
            return said
        meant = said + (rest - said) // 2**32 * 2**32
        if meant == said:
            if inside < self._size:
                behind = self._size - inside
                self._notes.append(f"{behind} bytes behind the end that its header gives were left out")
                return said
            meant = rest
        self._mended = True
        self._tell(said, meant)
        return meant

    def _tell(self, said: int, there: int) -> None:
        seconds = self._seconds(said), self._seconds(there)
        self._notes.append(f"its header says {seconds[0]:.2f} s, {seconds[1]:.2f} s are there and were read")

    def _seconds(self, size: int) -> float:
        """Length of so many bytes of sound."""
        (rate,) = struct.unpack_from(f"{self._order}I", self._format.ljust(12, b"\x00"), 8)
        return float(size / rate) if rate else 0.0

    def _chunks_follow(self, place: int) -> bool:
        """Whether there are chunks from here to the end of the file, or nothing more."""
        while place + 8 <= self._size:
            if not self._begins_chunk(place):
                return False
            length = self._number(place + 4)
            place += 8 + length + length % 2
        return True

    def _begins_chunk(self, place: int) -> bool:
        name = self._read(place, 4)
        fits = place + 8 + self._number(place + 4) <= self._size
        return len(name) == 4 and _is_name(name) and (fits or name in (*_FILES, b"data"))


def _is_name(chunk: bytes) -> bool:
    return all(32 <= one < 127 for one in chunk)


def header(chunks: bytes, size: int, order: str = "<", wide: bool = False) -> bytes:
    """A WAV file's bytes before so many bytes of sound, which a pad is to follow if they are odd; RF64 beyond 4 GiB.

    Args:
        chunks: what comes first, `fmt ` among it.
        order: of bytes: "<" or ">".
        wide: RF64 whatever the size.
    """
    whole = 4 + len(chunks) + 8 + size + size % 2
    if whole < UNKNOWN and not wide:
        magic, sizes, told = (b"RIFF" if order == "<" else b"RIFX"), b"", (whole, size)
    else:
        magic, told = b"RF64", (UNKNOWN, UNKNOWN)
        sizes = b"ds64" + struct.pack("<IQQQI", 28, whole + 36, size, 0, 0)
    head, data = (struct.pack(f"{order}I", number) for number in told)
    return magic + head + b"WAVE" + sizes + chunks + b"data" + data
