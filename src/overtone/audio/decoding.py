"""What decodes an open file, whichever library does: libsndfile, a chain of files that it reads, or PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import soundfile

from overtone.audio import channels as loudspeakers
from overtone.audio import libsndfile, sizes
from overtone.audio.samples import AudioError, Signal


class Decoder(Protocol):
    """An audio file being read.

    Attributes:
        rate: Hz.
        frames: samples a channel.
        format, subtype: libsndfile's or FFmpeg's names.
        mask: loudspeakers (see `channels`), 0 where nobody says.
        notes: sentences about what the header says and the file does not hold.
    """

    rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    mask: int

    @property
    def notes(self) -> Sequence[str]: ...

    def read(self, frames: int) -> Signal: ...

    def seek(self, start: int) -> None: ...

    def texts(self) -> dict[str, str]: ...

    def close(self) -> None: ...


class SoundFiles:
    """Files that libsndfile reads, one after the other as one.

    Args:
        sources: names in the file system's bytes, or files.
        name: what messages call them together.
        frames: samples a channel, None for what their headers say.

    Raises:
        AudioError: they differ in rate or channels.
        soundfile.LibsndfileError: one is none that libsndfile reads.
    """

    def __init__(self, sources: Sequence[Any], name: str, frames: int | None = None) -> None:
        with ExitStack() as stack:
            self._files = [stack.enter_context(soundfile.SoundFile(source)) for source in sources]
            self._close = stack.pop_all().close
        first = self._files[0]
        for other in self._files[1:]:
            if (other.samplerate, other.channels) != (first.samplerate, first.channels):
                raise AudioError(
                    f"{name}: holds recordings one after the other, of {first.channels} channels at {first.samplerate} Hz "
                    f"and {other.channels} at {other.samplerate} Hz; expected one: take it apart first"
                )
        self.rate, self.channels = first.samplerate, first.channels
        self.format, self.subtype = first.format, first.subtype
        self.notes = sizes.notes(first.extra_info) if self.format in ("AIFF", "AU", "W64") else ()
        self.frames = sum(file.frames for file in self._files) if frames is None else frames
        self._order = loudspeakers.restored(loudspeakers.stored(self.format, self.channels))
        # Some containers name each channel's loudspeaker, in any order.
        named = libsndfile.loudspeakers(first)
        self.mask = sum(named) if len({*named}) == self.channels else 0
        if self.mask and self.channels > 2:
            self._order = loudspeakers.restored([sorted(named).index(one) for one in named])
        elif self.format == "OGG" and self.channels > 2:
            self.mask = loudspeakers.USUAL.get(self.channels, 0)
        self._current = self._position = 0

    def read(self, frames: int) -> Signal:
        """The next samples, (channels, frames) or fewer at the end, in the order of their mask."""
        # Behind the last sample that was counted a decoder may fail.
        frames = min(frames, self.frames - self._position)
        parts = [np.zeros((0, self.channels), np.float32)]
        while frames > 0 and self._current < len(self._files):
            part = self._files[self._current].read(frames, dtype="float32", always_2d=True)
            self._current += not len(part)
            frames -= len(part)
            self._position += len(part)
            parts.append(part)
        joined = parts[1] if len(parts) == 2 else np.concatenate(parts)
        return np.ascontiguousarray(joined.T[self._order], dtype=np.float32)

    def seek(self, start: int) -> None:
        """Go on from a sample."""
        self._position = start
        self._current = 0
        while self._current < len(self._files) - 1 and start > self._files[self._current].frames:
            start -= self._files[self._current].frames
            self._current += 1
        file = self._files[self._current]
        if file.seekable():
            file.seek(start)
        else:
            # Some encodings (GSM 6.10 in WAV) can only be read in order.
            file.read(start, dtype="float32", always_2d=True)
        for later in self._files[self._current + 1 :]:
            if later.seekable():
                later.seek(0)

    def texts(self) -> dict[str, str]:
        """Title, artist and other texts."""
        return {name: str(text) for name, text in self._files[0].copy_metadata().items()}

    def close(self) -> None:
        self._close()
