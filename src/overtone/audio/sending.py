"""Encoded audio that can be sent while it is made: heads that hold the length from the start, and no way back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from overtone.audio.containers import container, wav_header
from overtone.audio.reading import Info
from overtone.audio.samples import Signal
from overtone.audio.writing import Writer

MEDIA_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg; codecs=opus",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
}
FORMATS = tuple(MEDIA_TYPES)
# An MP3 file says in its first frame how much of its ends to leave out, an MP4 file where its sound is: known last.
STREAMED = frozenset(FORMATS) - {"mp3", "m4a"}
# FLAC's first block holds the number of samples in 36 bits, the first 4 of them in the lower half of this byte.
_FLAC_LENGTH, _FLAC_HEAD = 21, 42


def format_of(info: Info) -> str:
    """The answer's format for a file whose request names none: the file's own, WAV where that cannot be written."""
    if info.format == "OGG":
        return "opus" if info.subtype == "OPUS" else "ogg"
    return {"FLAC": "flac", "MP3": "mp3"}.get(info.format, "wav")


class Encoder:
    """Samples in, bytes of a file out, in order.

    Args:
        format: one of `FORMATS`.
        rate: Hz.
        frames: samples a channel that will be written.
        subtype: of the source; its bit depth is kept where the format can hold it.
        mask: which channel is which loudspeaker's (see `channels`), 0 where nobody says.
        remarks: title, artist and other texts.

    Raises:
        AudioError: the format cannot hold this rate or number of channels.
    """

    def __init__(
        self,
        format: str,
        rate: int,
        channels: int,
        frames: int,
        subtype: str,
        mask: int = 0,
        remarks: Mapping[str, str] | None = None,
    ) -> None:
        self._sink = _Sink()
        self._frames = frames
        name, subtype = container(Path(f"audio.{format}"), subtype)
        wave = name == "WAV"
        # libsndfile writes the length last: the head is our own, and so is the pad behind an odd number of bytes.
        self._head = wav_header(rate, channels, frames, subtype, mask) if wave else b""
        self._pads = wave
        self._patch = name == "FLAC"
        self._whole = format not in STREAMED
        writable = cast("BinaryIO", self._sink)
        self._writer = Writer(writable, rate, channels, "RAW" if wave else name, subtype, remarks, 0 if wave else mask)

    def write(self, block: Signal) -> bytes:
        """Take samples (channels, samples); give the bytes that are known by now."""
        self._writer.write(block)
        return b"" if self._whole else self._take()

    def finish(self) -> bytes:
        """The remaining bytes."""
        self._writer.close()
        taken = self._take()
        return taken + b"\x00" * (self._pads and self._sink.tell() % 2)

    def _take(self) -> bytes:
        if self._patch:
            if self._sink.ready < _FLAC_HEAD:
                return b""
            self._sink.patch_length(self._frames)
            self._patch = False
        head, self._head = self._head, b""
        return head + self._sink.take()


class _Sink(io.RawIOBase):
    """A file to write, whose bytes are taken away as they come; what is written over taken ones is lost."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._taken = 0
        self._position = 0

    @property
    def ready(self) -> int:
        return len(self._held)

    def take(self) -> bytes:
        taken, self._held = bytes(self._held), bytearray()
        self._taken += len(taken)
        return taken

    def patch_length(self, frames: int) -> None:
        last = _FLAC_LENGTH + 5
        field = int.from_bytes(self._held[_FLAC_LENGTH:last], "big")
        self._held[_FLAC_LENGTH:last] = (field >> 36 << 36 | frames).to_bytes(5, "big")

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._taken + len(self._held)}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        block, start = bytes(data), self._position - self._taken
        self._position += len(block)
        kept = block[max(-start, 0) :]
        start = max(start, 0)
        self._held[start : start + len(kept)] = kept
        return len(block)


def encoded(encoder: Encoder, blocks: Iterator[Signal]) -> Iterator[bytes]:
    """The bytes of a file, piece by piece as its samples come."""
    for block in blocks:
        if piece := encoder.write(block):
            yield piece
    yield encoder.finish()
