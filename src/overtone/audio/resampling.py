"""Resampling aligned to the sample, and the lengths that it gives."""

from __future__ import annotations

import numpy as np
import soxr

from overtone.audio.samples import Signal


def resampled_length(frames: int, source: int, target: int) -> int:
    """Samples that `frames` samples at `source` Hz become at `target` Hz: the nearest whole number."""
    return (2 * frames * target + source) // (2 * source)


def fit_length(signal: Signal, frames: int) -> Signal:
    """Cut or zero-pad the end of a signal (channels, samples) to `frames` samples."""
    short = frames - signal.shape[1]
    return signal[:, :frames] if short <= 0 else np.pad(signal, ((0, 0), (0, short)))


def resample(signal: Signal, source: int, target: int) -> Signal:
    """Band-limited resampling (soxr, very high quality, linear phase) of (channels, samples), aligned to the sample.

    Shape:
        (channels, resampled_length(samples, source, target)).
    """
    if source == target:
        return signal
    out = soxr.resample(np.ascontiguousarray(signal.T), source, target, quality="VHQ").T
    return np.ascontiguousarray(fit_length(out, resampled_length(signal.shape[1], source, target)), dtype=np.float32)
