"""The project's short-time Fourier transform: sine windows of 1024 samples, half overlapping.

The squares of overlapping sine (square-root Hann) windows add up to one, so analysis and synthesis with the same window
return the signal, and incoherent changes of frames leave no ripple at the hop rate. Frame n is centred on sample n * HOP.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

WINDOW = 1024
HOP = WINDOW // 2
BINS = WINDOW // 2 + 1


@functools.cache
@torch.inference_mode(False)  # to be of use in training, whoever asks first
def window(device: torch.device | str = "cpu") -> Tensor:
    """The sine window. Shape: (WINDOW,), float32."""
    return torch.sin(math.pi * (torch.arange(WINDOW, device=device) + 0.5) / WINDOW)


def frames_of(samples: int) -> int:
    """Number of frames that cover `samples` samples."""
    return -(-samples // HOP) + 1


def spectra(signal: Tensor) -> Tensor:
    """Spectra of the frames that lie whole within a signal.

    Shape:
        (..., (N + 1) * HOP) -> complex (..., N, BINS).
    """
    spectrum: Tensor = torch.fft.rfft(signal.unfold(-1, WINDOW, HOP) * window(signal.device), dim=-1)
    return spectrum


def analyse(signal: Tensor) -> Tensor:
    """Spectra of all frames of a signal, with silence beyond both ends.

    Shape:
        (..., T) -> complex (..., frames_of(T), BINS).
    """
    samples = signal.shape[-1]
    return spectra(torch.nn.functional.pad(signal, (HOP, frames_of(samples) * HOP - samples)))


def overlap_add(spectrum: Tensor) -> Tensor:
    """Signal from the centre of the first frame to that of the last; the inverse of `analyse`.

    Shape:
        complex (..., N, BINS) -> (..., (N - 1) * HOP).
    """
    frames = torch.fft.irfft(spectrum, n=WINDOW, dim=-1) * window(spectrum.device)
    signal: Tensor = (frames[..., 1:, :HOP] + frames[..., :-1, HOP:]).flatten(-2)
    return signal
