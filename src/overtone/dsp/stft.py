"""The project's short-time Fourier transform: sine windows of 1024 samples, half overlapping.

The squares of overlapping sine (square-root Hann) windows add up to one, so analysis and synthesis with the same window
return the signal, and incoherent changes of frames leave no ripple at the hop rate. Frame n is centred on sample n * HOP.
Arrays are of NumPy or torch (see `dsp.backend`).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from overtone.dsp.backend import Array, like, namespace

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WINDOW = 1024
HOP = WINDOW // 2
BINS = WINDOW // 2 + 1


@functools.cache
def _window() -> npt.NDArray[np.float32]:
    return np.sin(math.pi * (np.arange(WINDOW) + 0.5) / WINDOW).astype(np.float32)


@functools.cache
def _tensor_window(device: torch.device) -> Tensor:
    import torch

    # To be of use in training, whoever asks first.
    with torch.inference_mode(False):
        return torch.sin(math.pi * (torch.arange(WINDOW, device=device) + 0.5) / WINDOW)


def window(array: Array) -> Array:
    """The sine window, of the library and on the device of an array. Shape: (WINDOW,), float32."""
    if isinstance(array, np.ndarray):
        return _window()
    return _tensor_window(array.device)


def bin_hz(rate: int) -> npt.NDArray[np.float32]:
    """Frequency of each bin at a rate, both in Hz. Shape: (BINS,)."""
    return np.arange(BINS, dtype=np.float32) * np.float32(rate / WINDOW)


def frames_of(samples: int) -> int:
    """Number of frames that cover `samples` samples."""
    return -(-samples // HOP) + 1


def spectra(signal: Array) -> Array:
    """Spectra of the frames that lie whole within a signal.

    Shape:
        (..., (N + 1) * HOP) -> complex (..., N, BINS).
    """
    frames: Any
    if isinstance(signal, np.ndarray):
        frames = np.lib.stride_tricks.sliding_window_view(signal, WINDOW, axis=-1)[..., ::HOP, :]
    else:
        frames = signal.unfold(-1, WINDOW, HOP)
    spectrum: Array = namespace(signal).fft.rfft(frames * window(signal))
    return spectrum


def analyse(signal: Array) -> Array:
    """Spectra of all frames of a signal, with silence beyond both ends.

    Shape:
        (..., T) -> complex (..., frames_of(T), BINS).
    """
    samples = signal.shape[-1]
    before, after = (
        like(np.zeros((*signal.shape[:-1], count), np.float32), signal)
        for count in (HOP, frames_of(samples) * HOP - samples)
    )
    padded: Array = namespace(signal).concatenate((before, signal, after), axis=-1)
    return spectra(padded)


def overlap_add(spectrum: Array) -> Array:
    """Signal from the centre of the first frame to that of the last; the inverse of `analyse`.

    Shape:
        complex (..., N, BINS) -> (..., (N - 1) * HOP).
    """
    frames = namespace(spectrum).fft.irfft(spectrum, n=WINDOW) * window(spectrum)
    joined = frames[..., 1:, :HOP] + frames[..., :-1, HOP:]
    signal: Array = joined.reshape(*joined.shape[:-2], -1)
    return signal
