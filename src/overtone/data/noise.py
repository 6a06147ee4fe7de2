"""Noise of any colour, excerpts of recorded noise, and mixing at a signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

from overtone.audio import Signal

Colour = Literal["white", "pink", "brown", "blue"]
Gain = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

# Amplitude ~ frequency^exponent: -3, -6 and +3 dB an octave.
_EXPONENTS: dict[Colour, float] = {"white": 0.0, "pink": -0.5, "brown": -1.0, "blue": 0.5}
_LOWEST_HZ = 20.0
_FADE_SECONDS = 0.05


def coloured(colour: Colour, channels: int, frames: int, rate: int, rng: np.random.Generator) -> Signal:
    """Gaussian noise of RMS 1, independent in each channel; below 20 Hz as strong as at 20 Hz.

    Shape:
        (channels, frames).
    """
    exponent = _EXPONENTS[colour]
    return shaped(lambda hz: np.maximum(hz, _LOWEST_HZ) ** exponent, channels, frames, rate, rng)


def tilted(tilt_db: float, channels: int, frames: int, rate: int, rng: np.random.Generator) -> Signal:
    """Gaussian noise of RMS 1 whose level in dB changes linearly with frequency, by `tilt_db` from 0 Hz to rate / 2.

    Shape:
        (channels, frames).
    """
    return shaped(lambda hz: 10.0 ** (tilt_db * hz / (rate / 2.0) / 20.0), channels, frames, rate, rng)


def shaped(gain: Gain, channels: int, frames: int, rate: int, rng: np.random.Generator) -> Signal:
    """White Gaussian noise through a gain over frequency (Hz), scaled to RMS 1.

    Shape:
        (channels, frames).
    """
    size = fft.next_fast_len(frames, real=True)
    spectrum = fft.rfft(rng.standard_normal((channels, size), dtype=np.float32))
    spectrum *= gain(fft.rfftfreq(size, 1.0 / rate)).astype(np.float32)
    noise = fft.irfft(spectrum, size)[:, :frames]
    return np.asarray(noise / rms(noise), dtype=np.float32)


def rms(signal: npt.NDArray[np.float32]) -> float:
    """Root mean square over all channels and samples."""
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)))) if signal.size else 0.0


def excerpt(noises: Sequence[Signal], channels: int, frames: int, rate: int, rng: np.random.Generator) -> Signal:
    """A random stretch of one of `noises`, looped with a cross-fade where it is too short.

    A mono recording fills both channels of a stereo excerpt alike; a stereo one is averaged for a mono excerpt.

    Args:
        noises: recordings of (1 or 2, any length) at `rate` Hz, at least one.

    Shape:
        (channels, frames).
    """
    noise = noises[int(rng.integers(len(noises)))]
    if noise.shape[0] != channels:
        noise = np.repeat(noise.mean(axis=0, keepdims=True), channels, axis=0)
    if noise.shape[1] < frames:
        noise = _loop(noise, frames, rate, rng)
    start = int(rng.integers(noise.shape[1] - frames + 1))
    return np.ascontiguousarray(noise[:, start : start + frames], dtype=np.float32)


def _loop(noise: Signal, frames: int, rate: int, rng: np.random.Generator) -> Signal:
    """The recording over and over, its end faded into its beginning, from a random point on."""
    length = noise.shape[1]
    fade = min(round(_FADE_SECONDS * rate), length // 4)
    loop = noise[:, : length - fade].copy()
    # Equal power: the two ends are different noise.
    angle = (np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1) * np.float32(np.pi / 2)
    loop[:, :fade] = loop[:, :fade] * np.sin(angle) + noise[:, length - fade :] * np.cos(angle)
    loop = np.roll(loop, int(rng.integers(loop.shape[1])), axis=1)
    return np.tile(loop, (1, -(-frames // loop.shape[1])))[:, :frames]


def mix(signal: Signal, noise: Signal, snr_db: float) -> Signal:
    """Signal plus noise at a ratio of powers over the whole length; unchanged if either is silent.

    Shape:
        both (channels, samples).
    """
    loud, quiet = rms(signal), rms(noise)
    if not loud or not quiet:
        return signal
    return signal + noise * np.float32(loud / quiet * 10.0 ** (-snr_db / 20.0))
