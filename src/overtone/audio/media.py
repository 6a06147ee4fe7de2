"""Sound of video and phone files (M4A, AAC, MP4, WebM, AMR and more) through PyAV, which the extra `media` brings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from overtone.audio import channels as loudspeakers
from overtone.audio.samples import AudioError, Signal

EXTENSIONS = frozenset(
    {".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".aac", ".amr", ".webm", ".mkv", ".mka", ".wma", ".wmv", ".avi"}
)
# First bytes, and where they stand: MP4 and QuickTime, Matroska and WebM, AMR, ASF, AVI, ADIF.
_BEGINNINGS = (
    *((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (0, b"\x1a\x45\xdf\xa3"), (0, b"#!AMR")),
    *((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), (8, b"AVI "), (0, b"ADIF")),
)
# AAC: sync of 12 bits, layer 0.
_ADTS_MASK, _ADTS = 0xFFF6, 0xFFF0
# What FFmpeg's own encoder of AAC needs to be hard to tell from the source.
_BITS_A_CHANNEL = 96_000
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 5: "5.0", 6: "5.1", 8: "7.1"}


def is_media(beginning: bytes) -> bool:
    """Whether a file that begins so is one that libsndfile does not read and FFmpeg does."""
    adts = len(beginning) > 1 and int.from_bytes(beginning[:2], "big") & _ADTS_MASK == _ADTS
    return adts or any(beginning.startswith(magic, place) for place, magic in _BEGINNINGS)


def _library(name: str) -> Any:
    """PyAV.

    Raises:
        AudioError: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise AudioError(
            f"{name}: its format needs the extra `media`: pip install '.[media]' in a clone of the project, "
            "else pip install 'overtone[media]'"
        ) from None
    return av


@contextmanager
def _explained(name: str) -> Iterator[Any]:
    """PyAV, whose errors become ours.

    Raises:
        AudioError: it is not installed, or the file is broken.
    """
    av = _library(name)
    try:
        yield av
    except AudioError:
        raise
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name}: not readable as audio ({reason})") from None


class Media:
    """The best sound of a file, decoded in order.

    Args:
        file: seekable; must stay open.
        name: what messages call it.
        frames: samples a channel, where they were counted before.
        most: seconds after which no more are counted.
    """

    seekable = True

    def __init__(self, file: BinaryIO, name: str, frames: int | None = None, most: float = math.inf) -> None:
        self._name = name
        file.seek(0)
        with _explained(name) as library:
            self._container = library.open(file)
            streams = self._container.streams
            if not streams.audio:
                raise AudioError(f"{name}: holds no sound; expected an audio track")
            self._stream = streams.best("audio") or streams.audio[0]
            codec = self._stream.codec_context
            self.rate, self.channels = int(codec.sample_rate), int(codec.layout.nb_channels)
            # In the usual order of loudspeakers, and packed: planes of eight channels cannot be read.
            self._packed = library.AudioResampler(format="flt")
            self.format = str(self._container.format.name.partition(",")[0]).upper().replace("MOV", "MP4")
            self.subtype = str(codec.name).upper()
            known = [one.name for one in codec.layout.channels]
        found = {*known} <= {*loudspeakers.NAMES} and self.channels > 2
        self.mask = sum(1 << loudspeakers.NAMES.index(one) for one in known) if found else 0
        self._tracks, self._damaged = len(streams.audio), 0
        self._blocks = self._decoded()
        self._rest = np.zeros((self.channels, 0), np.float32)
        self._skip = 0
        self.frames = self._counted(most) if frames is None else frames

    @property
    def notes(self) -> tuple[str, ...]:
        told = {
            f"{self._tracks} tracks of sound in it, the best one was read": self._tracks > 1,
            f"{self._damaged} damaged packets in it were left out": self._damaged,
        }
        return tuple(sentence for sentence, so in told.items() if so)

    def read(self, frames: int) -> Signal:
        """The next samples, (channels, frames) or fewer at the end."""
        parts, held = [self._rest], self._rest.shape[1]
        while held < frames and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            held += block.shape[1]
        joined = np.concatenate(parts, axis=1)
        self._rest = joined[:, frames:]
        return joined[:, :frames]

    def seek(self, start: int) -> None:
        """Go on from a sample, found by the file's own times: exact to what they are."""
        with _explained(self._name):
            base = self._stream.time_base or Fraction(1, self.rate)
            origin = self._stream.start_time or 0
            self._container.seek(origin + int(start / (self.rate * base)), stream=self._stream)
        self._blocks, self._rest, self._skip = self._decoded(start), self._rest[:, :0], 0

    def texts(self) -> dict[str, str]:
        """Title, artist and other texts."""
        told = {**self._container.metadata, **self._stream.metadata}
        return {name.lower(): text for name, text in told.items() if name.lower() in _TEXTS and text}

    def close(self) -> None:
        self._container.close()

    def _counted(self, most: float) -> int:
        total = 0
        for block in self._blocks:
            total += block.shape[1]
            if total > most * self.rate:
                break
        with _explained(self._name):
            self._container.seek(self._stream.start_time or 0, stream=self._stream)
        self._blocks = self._decoded()
        return total

    def _decoded(self, start: int = 0) -> Iterator[Signal]:
        """Samples from a place on; the first frame after a seek begins before it."""
        with _explained(self._name):
            first = True
            for frame in self._frames():
                for packed in self._packed.resample(frame):
                    block = packed.to_ndarray().reshape(-1, self.channels).T
                    if first and start and frame.pts is not None:
                        time = (frame.pts - (self._stream.start_time or 0)) * frame.time_base
                        block = block[:, max(start - round(time * self.rate), 0) :]
                    first = first and not block.shape[1]
                    yield np.ascontiguousarray(block, dtype=np.float32)

    def _frames(self) -> Iterator[Any]:
        """What can be decoded; a damaged packet is left out."""
        for packet in self._container.demux(self._stream):
            try:
                yield from packet.decode()
            except _library(self._name).error.InvalidDataError:
                self._damaged += 1


_TEXTS = ("title", "artist", "album", "date", "genre", "comment", "tracknumber", "copyright")


class MediaWriter:
    """AAC in an MP4 file (.m4a), written block by block; blocks are (channels, samples).

    Raises:
        AudioError: it cannot hold this rate or number of channels.
    """

    def __init__(self, target: BinaryIO, name: str, rate: int, channels: int) -> None:
        if channels not in _LAYOUTS:
            raise AudioError(f"{name}: MP4/AAC cannot hold {channels} channels at {rate} Hz")
        self._rate, self._layout, self._written = rate, _LAYOUTS[channels], 0
        self._av = av = _library(name)
        # Edit lists count in this: players then leave out exactly what the encoder put in front and behind.
        options = {"movie_timescale": str(rate)}
        self._container = av.open(target, "w", format="ipod", options=options)
        self._stream = self._container.add_stream("aac", rate=rate, layout=self._layout)
        self._stream.bit_rate = _BITS_A_CHANNEL * channels
        try:
            self._stream.codec_context.open()
        except (av.FFmpegError, ValueError):
            raise AudioError(f"{name}: MP4/AAC cannot hold {channels} channels at {rate} Hz") from None

    def write(self, block: Signal) -> None:
        if not block.shape[1]:
            return
        packed = np.ascontiguousarray(np.clip(block, -1.0, 1.0).T).reshape(1, -1)
        frame = self._av.AudioFrame.from_ndarray(packed, format="flt", layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._written
        self._written += block.shape[1]
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
