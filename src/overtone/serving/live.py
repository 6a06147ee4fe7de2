"""Live sound: frames of interleaved samples, enhanced as they come, from a client or from this machine's microphone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import soxr
from pydantic import BaseModel, ConfigDict, Field

from overtone import audio
from overtone.audio import AudioError, Signal
from overtone.enhance.profile import Profile
from overtone.enhance.upsampler import Mode, Upsampler

_TYPES: dict[str, np.dtype[Any]] = {"f32le": np.dtype("<f4"), "s16le": np.dtype("<i2")}
# Of the next better one, an 8 kHz stream waits as long and a 16 kHz stream twice as long.
_QUALITY = "HQ"
# From this rate on, a stream's rate says nothing of its band.
_ANY_BAND = 44_100
# Sound that waits to be played, at most: what is more is left out, so that a stall does not become a lasting delay.
_MOST_SECONDS = 0.5
_WAIT_SECONDS = 0.1


class LiveSettings(BaseModel):
    """What a live stream's frames are, and what is made of them.

    Attributes:
        rate: of the frames that come in, Hz; those that go out are at the model's rate.
        format: of samples both ways.
        cutoff_hz: above which there is nothing; None is half the rate, and not allowed from 44.1 kHz on.
        profile: the content of a file that `overtone profile` wrote.
        brightness: dB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    rate: Annotated[int, Field(ge=8_000, le=192_000)]
    channels: Annotated[int, Field(ge=1, le=8)] = 1
    format: Literal["f32le", "s16le"] = "f32le"
    mode: Mode = "auto"
    cutoff_hz: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    profile: dict[str, Any] | None = None
    brightness: Annotated[float, Field(ge=-6, le=6, allow_inf_nan=False)] = 0.0


class LiveStream:
    """One live stream through a model.

    Attributes:
        facts: what its client may know of it.
        seconds: of sound taken.
        sent: samples a channel given.
        frame_bytes, bytes_a_second: of what comes in.

    Raises:
        AudioError: a cutoff outside the band, or none at a rate that says nothing of it.
        ProfileError: not a profile.
    """

    def __init__(self, model: Upsampler, settings: LiveSettings) -> None:
        rate, channels, cutoff_hz = settings.rate, settings.channels, settings.cutoff_hz
        if cutoff_hz is None:
            if rate >= _ANY_BAND:
                raise AudioError(f"cutoff_hz: expected for a stream at {rate} Hz, which may hold any band")
            cutoff_hz = rate / 2
        cutoff_hz = model.checked_cutoff(cutoff_hz)
        profile = None if settings.profile is None else Profile.parse(settings.profile, "profile")
        self._stream = model.stream(
            channels, mode=settings.mode, cutoff_hz=cutoff_hz, profile=profile, brightness_db=settings.brightness
        )
        self._resampler = (
            None if rate == model.rate else soxr.ResampleStream(rate, model.rate, channels, quality=_QUALITY)
        )
        self._channels = channels
        self._type = _TYPES[settings.format]
        self.frame_bytes = channels * self._type.itemsize
        self.bytes_a_second = rate * self.frame_bytes
        self.seconds = 0.0
        self.sent = 0
        self.facts: dict[str, Any] = {
            "rate": model.rate,
            "channels": channels,
            "format": settings.format,
            "mode": "restore" if settings.mode == "restore" else "extend",
            "cutoff_hz": cutoff_hz,
            "latency_ms": round(1000 * self._stream.lookahead / model.rate + resampling_ms(rate, model.rate), 1),
        }

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Frames in pieces of a twentieth of a second."""
        size = self.bytes_a_second // (20 * self.frame_bytes) * self.frame_bytes
        return (data[start : start + size] for start in range(0, len(data), size))

    def push(self, data: bytes) -> bytes:
        """Take whole frames; give those that are known now.

        Raises:
            AudioError: NaN or infinite samples.
        """
        block = np.frombuffer(data, self._type).reshape(-1, self._channels)
        self.seconds += len(data) / self.bytes_a_second
        samples = block.astype(np.float32) / np.float32(32_768 if self._type.kind == "i" else 1)
        audio.check_samples("the stream", samples)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return self._out(self._stream.push(np.ascontiguousarray(samples.T)))

    def finish(self) -> bytes:
        """The remaining frames."""
        rest = b""
        if self._resampler is not None:
            tail = self._resampler.resample_chunk(np.zeros((0, self._channels), np.float32), last=True)
            rest = self._out(self._stream.push(np.ascontiguousarray(tail.T)))
        return rest + self._out(self._stream.finish())

    def _out(self, signal: Signal) -> bytes:
        self.sent += signal.shape[1]
        if self._type.kind == "i":
            signal = np.clip(np.rint(signal * 32_768), -32_768, 32_767)
        return bytes(np.ascontiguousarray(signal.T).astype(self._type).tobytes())


def resampling_ms(source: int, target: int) -> float:
    """The longest that a sample waits in the resampler when it is fed 10 ms at a time, ms."""
    if source == target:
        return 0.0
    resampler = soxr.ResampleStream(source, target, 1, quality=_QUALITY)
    taken = given = 0
    longest = 0.0
    for index in range(100):
        block = np.zeros((source * (index + 1) // 100 - taken, 1), np.float32)
        taken += len(block)
        longest = max(longest, taken / source - given / target)
        given += len(resampler.resample_chunk(block))
    return 1000 * longest


class SoundCard:
    """Takes what was recorded and gives what is to be played, both as interleaved 32-bit floats.

    Args:
        stream: mono or more, of format `f32le`.

    Attributes:
        gaps: how often nothing was there to be played in time, after the first sound.
    """

    def __init__(self, stream: LiveStream) -> None:
        self._stream = stream
        self._recorded: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._ready = bytearray()
        self._lock = threading.Lock()
        self._most = round(_MOST_SECONDS * stream.facts["rate"]) * stream.frame_bytes
        self._begun = False
        self.gaps = 0

    def record(self, data: bytes) -> None:
        """Take frames; called by the sound card, and returns at once."""
        self._recorded.put(data)

    def play(self, size: int) -> bytes:
        """The next bytes to be played, silence where there are none; called by the sound card, and returns at once."""
        with self._lock:
            taken = bytes(self._ready[:size])
            del self._ready[:size]
        self._begun = self._begun or bool(taken)
        self.gaps += self._begun and len(taken) < size
        return taken.ljust(size, b"\x00")

    def run(self, stop: threading.Event) -> None:
        """Enhance what is recorded until `stop` is set.

        Raises:
            AudioError: NaN or infinite samples.
        """
        while not stop.is_set():
            try:
                out = self._stream.push(self._recorded.get(timeout=_WAIT_SECONDS))
            except queue.Empty:
                continue
            with self._lock:
                self._ready += out
                del self._ready[: max(0, len(self._ready) - self._most)]
