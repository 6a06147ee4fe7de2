"""Levels of a file over time and frequency, small enough for a browser whatever the file's length."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from overtone import audio
from overtone.audio import Signal, Source

COLUMNS = 800
BANDS = 256
TOP_HZ = 24_000
# dB, where a sine of full scale has 0, of the bytes 0 and 255.
DARKEST, BRIGHTEST = -110, -20
_WINDOW_SECONDS = 0.04


def levels(source: Source) -> bytes:
    """Mean level of each band in each of `COLUMNS` equal stretches of time, over all channels; one block is in memory.

    Returns:
        A byte a level, from `DARKEST` to `BRIGHTEST`: column after column, the lowest band first.

    Raises:
        AudioError: the file is missing or is not audio that can be used.
    """
    info = audio.probe(source)
    frames = max(1, info.frames)
    size = 2 * round(info.rate * _WINDOW_SECONDS / 2)
    hop = max(1, min(size // 2, frames // COLUMNS))
    power = np.zeros((COLUMNS, size // 2 + 1))
    windows = np.zeros(COLUMNS)
    # Windows are centred on every hop from the first sample on.
    held = silence = np.zeros((info.channels, size // 2), np.float32)
    centre = 0
    for block in itertools.chain(audio.blocks(source), [silence]):
        held = np.concatenate((held, block), axis=1)
        found = _powers(held, size, hop)
        columns = np.minimum((centre + hop * np.arange(len(found))) * COLUMNS // frames, COLUMNS - 1)
        np.add.at(power, columns, found)
        np.add.at(windows, columns, 1)
        centre += hop * len(found)
        held = held[:, hop * len(found) :]
    power /= np.maximum(windows, 1)[:, None]
    decibels = 10 * np.log10(_banded(power, info.rate / size) + 1e-30)
    share = (decibels - DARKEST) / (BRIGHTEST - DARKEST)
    return np.clip(np.rint(255 * share), 0, 255).astype(np.uint8).tobytes()


def _powers(signal: Signal, size: int, hop: int) -> npt.NDArray[np.float64]:
    """Power of each bin of each whole window (windows, bins), the mean over channels."""
    if signal.shape[1] < size:
        return np.zeros((0, size // 2 + 1))
    windows = np.lib.stride_tricks.sliding_window_view(signal, size, axis=1)[:, ::hop]
    spectra = np.fft.rfft(windows * np.hanning(size + 1)[:-1], axis=2) * (4 / size)
    return np.asarray((np.abs(spectra) ** 2).mean(axis=0))


def _banded(power: npt.NDArray[np.float64], bin_hz: float) -> npt.NDArray[np.float64]:
    """Mean power (columns, BANDS) of the bins of each band, nothing above half the file's rate."""
    band = np.arange(power.shape[1]) * bin_hz * BANDS // TOP_HZ
    out = np.zeros((len(power), BANDS))
    for index in range(BANDS):
        within = band == index
        if within.any():
            out[:, index] = power[:, within].mean(axis=1)
    return out
