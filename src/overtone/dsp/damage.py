"""What is wrong with a recording, as far as it can be repaired: lost packets, clipped samples, noise behind a voice."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overtone.audio import Signal
from overtone.dsp.declip import clipped_samples
from overtone.dsp.gaps import find_gaps

Array = npt.NDArray[np.float64]

# From these shares of the samples on something is repaired.
_LOST, _CLIPPED = 0.002, 5e-4
# Below this signal-to-noise ratio a voice is freed of its noise.
NOISY_DB = 20.0
# Level between the loud moments of a voice (95th percentile) and its pauses (10th) at a signal-to-noise ratio of 0 dB.
_SPREAD_DB = 12.0
# Steady sound that never pauses is music, or nothing but noise.
_LEAST_SPREAD_DB = 10.0
# In the quiet moments of a noisy voice no partials stand out by so many dB; where the sound is steady in part of the band
# noise may have more of them.
_PARTIALS_DB, _STEADY, _PARTIALS_STEADY_DB = 0.6, 0.16, 1.5
_BAND_HZ = (200.0, 6000.0)
_NEIGHBOURS = 15


@dataclass(frozen=True)
class Damage:
    """What was found.

    Attributes:
        lost: share of the samples that are lost.
        clipped: share of the samples that are clipped.
        snr_db: level of a voice over the noise behind it; inf where there is no such noise, or no voice.
    """

    lost: float = 0.0
    clipped: float = 0.0
    snr_db: float = math.inf

    @property
    def conceal(self) -> bool:
        """Whether lost packets are worth filling."""
        return self.lost >= _LOST

    @property
    def declip(self) -> bool:
        """Whether clipped samples are worth repairing."""
        return self.clipped >= _CLIPPED

    @property
    def denoise(self) -> bool:
        """Whether a voice is to be freed of noise."""
        return self.snr_db <= NOISY_DB

    @property
    def any(self) -> bool:
        """Whether anything is to be repaired."""
        return self.conceal or self.declip or self.denoise


def examine(excerpts: Iterable[Signal], rate: int) -> Damage:
    """Look at excerpts of a recording.

    Args:
        excerpts: (channels, samples) each, full scale 1.0, at the recording's own rate.
        rate: Hz.
    """
    heard = [excerpt for excerpt in excerpts if excerpt.shape[1]]
    samples = sum(excerpt.size for excerpt in heard)
    if not samples:
        return Damage()
    lost = sum(float(find_gaps(excerpt, rate).sum()) * len(excerpt) for excerpt in heard) / samples
    clipped = sum(int(clipped_samples(row).sum()) for excerpt in heard for row in excerpt) / samples
    # Gaps are no pauses of the voice.
    snr = speech_snr(heard, rate) if lost < _LOST else math.inf
    return Damage(lost, clipped, snr)


def speech_snr(excerpts: list[Signal], rate: int) -> float:
    """Signal-to-noise ratio in dB of a voice; inf where it pauses in silence, or where the sound is no voice in noise.

    A voice pauses, and what is left then is noise: between its loud and its quiet moments lies the ratio. Quiet moments in
    which partials stand out are music's.

    Source: the level distribution as in NIST's STNR; steadiness from minimum statistics (Martin 2001).
    """
    power = _power(excerpts, rate)
    level = 10.0 * np.log10(power.sum(axis=1) + 1e-11)
    sounding = level > -95.0
    power, level = power[sounding], level[sounding]
    if len(level) < 40 or power.shape[1] < 2 * _NEIGHBOURS:
        return math.inf
    quiet, loud = np.percentile(level, (10.0, 95.0))
    spread = float(loud - quiet)
    pauses = power[level <= np.percentile(level, 20.0)].mean(axis=0) + 1e-15
    kernel = np.ones(_NEIGHBOURS) / _NEIGHBOURS
    arithmetic, geometric = np.convolve(pauses, kernel, "valid"), np.convolve(np.log10(pauses), kernel, "valid")
    partials = float(10.0 * (np.log10(arithmetic) - geometric).mean())
    tenth, half = np.percentile(power, (10.0, 50.0), axis=0)
    steady = float((half < 10**1.1 * tenth).mean())
    if spread < _LEAST_SPREAD_DB or partials > (_PARTIALS_STEADY_DB if steady >= _STEADY else _PARTIALS_DB):
        return math.inf
    return spread - _SPREAD_DB


def _power(excerpts: list[Signal], rate: int) -> Array:
    """Power by frame (about 21 ms) and bin of the band where voices are. Shape: (channels, samples) each -> (frames, bins)."""
    size = int(2 ** max(6, round(math.log2(rate / 47.0))))
    window = np.hanning(size)
    low, high = (round(min(hz, 0.45 * rate) * size / rate) for hz in _BAND_HZ)
    parts = []
    for excerpt in excerpts:
        mono = np.pad(excerpt.mean(axis=0, dtype=np.float32), (0, max(size - excerpt.shape[1], 0)))
        frames = np.lib.stride_tricks.sliding_window_view(mono, size)[:: size // 2]
        parts.append(np.abs(np.fft.rfft(frames * window, axis=-1))[:, low:high] ** 2)
    return np.asarray(np.concatenate(parts) / ((window**2).sum() * size / 2))
