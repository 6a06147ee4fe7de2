"""Bands of bins: the resolution at which envelopes are learned.

Three bins (141 Hz at 48 kHz) wide up to bin 45, about 2 kHz, then each about 6 % wider than the one below, up to the top.
Levels are log10 of the mean power of a band's bins (`dsp.stft`); 1 is 10 dB. A full-scale sine reaches 4.8, the rounding of
16-bit audio lies near -7.4, and nothing is below -10.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import numpy.typing as npt

from overtone.dsp.backend import Array, constant, like, namespace
from overtone.dsp.stft import BINS, WINDOW

EDGES: npt.NDArray[np.int64] = np.unique(
    np.concatenate([np.arange(0, 45, 3), np.round(np.geomspace(45, BINS, 42)).astype(int)])
)
BANDS = len(EDGES) - 1
# Bins of each band, and the middle of each in bins.
WIDTHS: npt.NDArray[np.int64] = np.diff(EDGES)
CENTRES: npt.NDArray[np.float64] = (EDGES[:-1] + EDGES[1:] - 1) / 2
FLOOR = 1e-10
# Level of 16-bit rounding (power 2^-30 / 12 a sample) in a frame.
ROUNDING = -7.4
# A band is visible if it lies below this share of the cutoff: nearer to it are the edges of filters.
VISIBLE = 0.92


@functools.cache
def _averaging() -> npt.NDArray[np.float32]:
    return averaging(EDGES)


@functools.cache
def _interpolation() -> npt.NDArray[np.float32]:
    return interpolation(EDGES)


def averaging(edges: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """What bins are multiplied by to give the mean of each group. Shape: (groups + 1,) -> (BINS, groups)."""
    matrix = np.zeros((BINS, len(edges) - 1), np.float32)
    for group, (low, high) in enumerate(itertools.pairwise(edges)):
        matrix[low:high, group] = 1 / (high - low)
    return matrix


def interpolation(edges: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """What values of groups are multiplied by to be interpolated linearly to bins. Shape: (groups + 1,) -> (groups, BINS)."""
    centres = (edges[:-1] + edges[1:] - 1) / 2
    return np.array([np.interp(np.arange(BINS), centres, unit) for unit in np.eye(len(centres))], np.float32)


def band_powers(power: Array) -> Array:
    """Mean over the bins of each band. Shape: (..., BINS) -> (..., BANDS)."""
    means: Array = power @ constant(_averaging, power)
    return means


def band_levels(spectrum: Array) -> Array:
    """log10 of each band's mean power. Shape: complex (..., BINS) -> (..., BANDS)."""
    xp = namespace(spectrum)
    levels: Array = xp.log10(band_powers(xp.square(spectrum.real) + xp.square(spectrum.imag)) + FLOOR)
    return levels


def to_bins(values: Array) -> Array:
    """Values of bands interpolated linearly to bins. Shape: (..., BANDS) -> (..., BINS)."""
    found: Array = values @ constant(_interpolation, values)
    return found


def band_tops(rate: int) -> npt.NDArray[np.float32]:
    """Upper edge of each band in Hz. Shape: (BANDS,)."""
    return EDGES[1:].astype(np.float32) * np.float32(rate / WINDOW)


def band_middles(rate: int) -> npt.NDArray[np.float32]:
    """Middle of each band in Hz. Shape: (BANDS,)."""
    return CENTRES.astype(np.float32) * np.float32(rate / WINDOW)


def visible_bands(cutoff_hz: Array, rate: int) -> Array:
    """Which bands lie safely below a cutoff; all of them where it reaches half the rate.

    Shape:
        cutoff_hz (...,) -> bool (..., BANDS).
    """
    cutoff_hz = cutoff_hz[..., None]
    visible: Array = (like(band_tops(rate), cutoff_hz) <= VISIBLE * cutoff_hz) | (cutoff_hz >= rate / 2)
    return visible
