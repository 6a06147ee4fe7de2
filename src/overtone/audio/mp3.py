"""MP3 files whose frames differ in size and whose head does not say how many there are.

libsndfile guesses the length of such a file from its first frames, and reads no sample beyond its guess: of a file that
begins loud most would be lost. Here the frames are counted, and the count is put in front, as encoders do it.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, cast

# By the two bits of a frame header that tell the version: MPEG 2.5, none, 2, 1.
_RATES = ((11_025, 12_000, 8_000), (), (22_050, 24_000, 16_000), (44_100, 48_000, 32_000))
_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_1 = 3
_TAGS = (b"Xing", b"Info", b"VBRI")
# How much of a frame is looked at for its tag.
_TAG_BYTES = 64
# Junk between frames that is passed over, as libmpg123 does.
_JUNK_BYTES = 65_536


def headed(file: BinaryIO) -> BinaryIO | None:
    """The same MP3 file with a head that counts its frames; None for one that has a head or needs none.

    Args:
        file: seekable; must stay open and unused while the result is read.
    """
    start, first, size, sizes, count = None, b"", 0, set(), 0
    for offset, frame, length in _frames(file):
        if start is None:
            if any(tag in frame for tag in _TAGS):
                return None
            start, first, size = offset, frame[:4], length
        # A frame that is padded is a byte longer, at the same rate of bits.
        sizes.add(frame[2] >> 4)
        count += 1
    if start is None or len(sizes) < 2:
        return None
    return cast("BinaryIO", _Headed(_head(first, size, count), file, start))


def _frames(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Offset, first bytes and length of each frame of layer III."""
    offset, kind, junk = _after_tag(file), None, 0
    while junk < _JUNK_BYTES:
        file.seek(offset)
        begun = file.read(_TAG_BYTES)
        if len(begun) < 4:
            return
        length = _length(begun)
        if length is None or (kind is not None and _kind(begun) != kind):
            step = begun.find(b"\xff", 1)
            step = len(begun) if step < 0 else step
            offset, junk = offset + step, junk + step
            continue
        kind, junk = _kind(begun), 0
        yield offset, begun, length
        offset += length


def _after_tag(file: BinaryIO) -> int:
    file.seek(0)
    head = file.read(10)
    if len(head) < 10 or not head.startswith(b"ID3"):
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size


def _kind(header: bytes) -> tuple[int, int]:
    """Version, layer and rate: the same in all frames of a file."""
    return header[1] & 0xFE, header[2] & 0x0C


def _length(header: bytes) -> int | None:
    """Bytes of a frame that begins so, None if none does."""
    version, rate, bits = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    layer_3 = header[0] == 0xFF and header[1] & 0xE6 == 0xE2
    if not layer_3 or version == 1 or rate == 3 or bits in (0, 15):
        return None
    kbps = (_KBPS_1 if version == _MPEG_1 else _KBPS)[bits]
    samples = 1_152 if version == _MPEG_1 else 576
    return samples // 8 * kbps * 1_000 // _RATES[version][rate] + (header[2] >> 1 & 1)


def _head(first: bytes, size: int, count: int) -> bytes:
    """A frame without sound that counts those behind it, like the one that it comes before."""
    mono = first[3] >> 6 == 3
    side = (17 if mono else 32) if first[1] >> 3 & 3 == _MPEG_1 else (9 if mono else 17)
    # Without a checksum.
    header = bytes([first[0], first[1] | 1, *first[2:]])
    return (header + bytes(side) + b"Xing" + struct.pack(">II", 1, count)).ljust(size, b"\x00")


class _Headed(io.RawIOBase):
    """A file from an offset on, behind a head of its own."""

    def __init__(self, head: bytes, file: BinaryIO, start: int) -> None:
        self._head, self._file, self._start = head, file, start
        self._length = len(head) + file.seek(0, os.SEEK_END) - start
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, self._length)[whence])
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        size = self._length if size < 0 else size
        data = self._head[self._position : self._position + size]
        if len(data) < size:
            self._file.seek(self._start + max(0, self._position - len(self._head)))
            data += self._file.read(size - len(data))
        self._position += len(data)
        return data

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
