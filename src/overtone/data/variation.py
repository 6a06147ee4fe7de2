"""A recording played faster or slower, or through another microphone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft
from scipy.interpolate import PchipInterpolator

from overtone import audio
from overtone.audio import Signal

_FILTER_PADDING = 2048
# Centres of the bands whose gain a random microphone changes; between them the gain is smooth in log frequency.
COLOUR_HZ = (63.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)


def draw_colour(deviation_db: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Gains in dB at `COLOUR_HZ`, normally distributed, at most two standard deviations from 0."""
    gains = np.clip(rng.normal(0.0, deviation_db, len(COLOUR_HZ)), -2 * deviation_db, 2 * deviation_db)
    return tuple(round(float(gain), 2) for gain in gains)


def change_speed(signal: Signal, rate: int, speed: float) -> Signal:
    """Played `speed` times as fast: shorter and higher above 1. Rounded to a whole rate in Hz."""
    return audio.resample(signal, round(rate * speed), rate)


def filtered(signal: Signal, rate: int, tilt_db: float, colour_db: Sequence[float] = ()) -> Signal:
    """A zero-phase gain: linear in frequency from 0 dB at 0 Hz to `tilt_db` at half the rate, plus the curve of a microphone.

    Args:
        colour_db: gains in dB at `COLOUR_HZ`, joined by a monotone cubic over log frequency and constant beyond; empty
            for none.

    Shape:
        signal: (channels, samples) in and out.
    """
    frames = signal.shape[1]
    size = fft.next_fast_len(frames + _FILTER_PADDING, real=True)
    spectrum = fft.rfft(signal, size)
    frequency = np.linspace(0.0, rate / 2.0, spectrum.shape[1])
    gain_db = tilt_db * frequency / (rate / 2.0)
    if len(colour_db):
        octaves = np.log2(np.clip(frequency, COLOUR_HZ[0], COLOUR_HZ[-1]))
        gain_db += PchipInterpolator(np.log2(COLOUR_HZ), colour_db)(octaves)
    spectrum *= (10.0 ** (gain_db / 20.0)).astype(np.float32)
    return np.asarray(fft.irfft(spectrum, size)[:, :frames], dtype=np.float32)
