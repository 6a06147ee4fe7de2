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
import torch
from torch import Tensor

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
@torch.inference_mode(False)  # to be of use in training, whoever asks first
def _averaging() -> Tensor:
    matrix = np.zeros((BINS, BANDS), np.float32)
    for band, (low, high) in enumerate(itertools.pairwise(EDGES)):
        matrix[low:high, band] = 1 / (high - low)
    return torch.from_numpy(matrix)


@functools.cache
@torch.inference_mode(False)  # to be of use in training, whoever asks first
def _interpolation() -> Tensor:
    rows = [np.interp(np.arange(BINS), CENTRES, unit) for unit in np.eye(BANDS)]
    return torch.from_numpy(np.array(rows, np.float32))


def band_powers(power: Tensor) -> Tensor:
    """Mean over the bins of each band. Shape: (..., BINS) -> (..., BANDS)."""
    return power @ _averaging().to(power.device)


def band_levels(spectrum: Tensor) -> Tensor:
    """log10 of each band's mean power. Shape: complex (..., BINS) -> (..., BANDS)."""
    return torch.log10(band_powers(spectrum.real.square() + spectrum.imag.square()) + FLOOR)


def to_bins(values: Tensor) -> Tensor:
    """Values of bands interpolated linearly to bins. Shape: (..., BANDS) -> (..., BINS)."""
    return values @ _interpolation().to(values.device)


def band_tops(rate: int) -> Tensor:
    """Upper edge of each band in Hz. Shape: (BANDS,)."""
    return torch.from_numpy(EDGES[1:].astype(np.float32) * (rate / WINDOW))


def band_middles(rate: int) -> Tensor:
    """Middle of each band in Hz. Shape: (BANDS,)."""
    return torch.from_numpy(CENTRES.astype(np.float32) * (rate / WINDOW))


def visible_bands(cutoff_hz: Tensor, rate: int) -> Tensor:
    """Which bands lie safely below a cutoff; all of them where it reaches half the rate.

    Shape:
        cutoff_hz (...,) -> bool (..., BANDS).
    """
    cutoff_hz = cutoff_hz[..., None]
    return (band_tops(rate).to(cutoff_hz.device) <= VISIBLE * cutoff_hz) | (cutoff_hz >= rate / 2)
