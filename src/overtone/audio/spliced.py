"""A file put together from parts of another and from bytes of our own: how a broken head is mended without writing to it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

# Bytes, or offset and length of a part of the file.
Part = bytes | tuple[int, int]


_TAIL = 128


@dataclass(frozen=True)
class Plan:
    """How a file is to be read so that all of its sound comes out.

    Args:
        pieces: files to be read one after the other, each as its parts; empty: the file as it is.
        frames: samples a channel, where the pieces' own headers do not tell; None where they do.
        claimed: see `Spliced`.
        notes: sentences about what the file's header says and the file does not hold, or the reverse.
        mask: loudspeakers of its channels, where the decoder does not tell; else 0.
    """

    pieces: tuple[tuple[Part, ...], ...] = ()
    frames: int | None = None
    notes: tuple[str, ...] = ()
    mask: int = 0
    claimed: int = 1


class Spliced(io.RawIOBase):
    """Parts in a row as one file to read; the file that they lie in may be shared with other readers.

    Seeking to places that a broken header names is no error: raised inside a decoder's callback, it would only be printed.

    Args:
        claimed: what it says is its length, many times its own; for decoders that estimate by it and read until nothing comes.
    """

    def __init__(self, file: BinaryIO, parts: Sequence[Part], claimed: int = 1) -> None:
        self._file = file
        self._parts = parts
        self._lengths = [len(part) if isinstance(part, bytes) else part[1] for part in parts]
        self._length = sum(self._lengths) * claimed
        self._tail = max(self._length - _TAIL, sum(self._lengths))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = (0, self._position, self._length)[whence]
        if 0 <= start + offset < 2**62:
            self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        wanted = max(0, self._length - self._position) if size < 0 else size
        found = []
        start = 0
        for part, length in zip(self._parts, self._lengths, strict=True):
            inside = self._position - start
            if wanted and 0 <= inside < length:
                found.append(self._piece(part, inside, min(wanted, length - inside)))
                self._position += len(found[-1])
                wanted -= len(found[-1])
            start += length
        # Where tags would stand in front of the end that is claimed, there are none.
        return b"".join(found) or bytes(
            min(wanted, max(0, self._length - self._position)) * (self._position >= self._tail)
        )

    def _piece(self, part: Part, inside: int, size: int) -> bytes:
        if isinstance(part, bytes):
            return part[inside : inside + size]
        self._file.seek(part[0] + inside)
        return self._file.read(size)

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return file.seek(0, os.SEEK_END)
