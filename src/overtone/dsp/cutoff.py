"""The one rule for the cutoff: the lower of half the rate and what the signal shows."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter, minimum_filter1d

from overtone.audio import Signal
from overtone.dsp.bandwidth import estimate_bandwidth

Spectrum = npt.NDArray[np.float64]

# Of the frames, those are heard that are at most so far (power) below the loudest tenth; silence tells nothing.
_ACTIVE = 1e-3
# An edge: within so many Hz the level falls by so many dB and never comes back. No voice and no instrument does that.
_WIDTH_HZ, _FALL_DB = 300.0, 14.0
_FROM_HZ = 1500.0
# So near to half the rate it is the edge of the file's own resampler.
_FULL = 0.94
# A single line (a hum, a 19 kHz pilot) is no band: the median over so many bins drops it.
_LINE_BINS = 15


def find_cutoff(excerpts: Iterable[Signal], rate: int) -> float:
    """The frequency above which a recording holds nothing of its sound.

    Of the mean logarithmic spectrum of its frames (so that clicks and clipped peaks, which fill the band for moments, count
    for little) the lowest frequency is taken at which the level falls steeply for good: the low-pass of a resampler or an
    encoder, also where noise lies above it. Without such an edge it is the highest frequency that stands out of rounding.

    Args:
        excerpts: of the recording, (channels, samples) each, any level.
        rate: Hz.

    Returns:
        Hz, at most rate / 2; 0.0 for silence.
    """
    heard = list(excerpts)
    reach = min(max((estimate_bandwidth(excerpt, rate) for excerpt in heard), default=0.0), rate / 2)
    found = min(reach, edge(heard, rate)) if reach else 0.0
    return rate / 2 if found >= _FULL * rate / 2 else found


def edge(excerpts: list[Signal], rate: int) -> float:
    """The lowest frequency at which the level falls steeply for good, rate / 2 if there is none. Hz."""
    size = int(2 ** max(6, round(math.log2(rate / 47.0))))
    level = _level(excerpts, size)
    if level is None:
        return rate / 2
    width = max(round(_WIDTH_HZ * size / rate), 4)
    first, top = round(_FROM_HZ * size / rate), len(level) - 1
    # The last bins hold the resampler's own edge at half the rate.
    last = top - width - max(round(0.02 * top), 2)
    beyond = np.maximum.accumulate(level[::-1])[::-1]
    below = minimum_filter1d(level, 8, origin=3)
    falls = below[:-width] - beyond[width:]
    steep = np.flatnonzero(falls[first:last] >= _FALL_DB)
    if not len(steep):
        return rate / 2
    # From the beginning of the fall, the first bin that is three quarters down.
    start = first + int(steep[0])
    low = (below[start] + 3 * beyond[start + width]) / 4
    down = np.flatnonzero(level[start:] < low)
    return float(min((start + down[0]) * rate / size, rate / 2))


def _level(excerpts: list[Signal], size: int) -> Spectrum | None:
    """Mean level in dB by bin of the active frames; None without any. Shape: (channels, samples) each -> (size / 2 + 1,)."""
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)) ** 2
    powers = []
    for excerpt in excerpts:
        mono = np.asarray(excerpt, np.float32)[np.square(excerpt).sum(axis=1).argmax()]
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(mono, (0, max(size - len(mono), 0))), size)[
            :: size // 2
        ]
        powers.append(np.abs(np.fft.rfft(frames * window, axis=-1)) ** 2)
    power = np.concatenate(powers)
    energy = power.mean(axis=1)
    active = power[(energy > _ACTIVE * np.percentile(energy, 90.0)) & (energy > 0.0)]
    if not len(active):
        return None
    mean = np.log10(active + 1e-12).mean(axis=0) * 10.0
    return np.asarray(median_filter(mean, size=_LINE_BINS, mode="nearest"))
