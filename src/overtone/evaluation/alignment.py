"""Two recordings of one thing may begin at different times, as encoders, players and tools let them."""

from __future__ import annotations

import numpy as np
import scipy.signal

from overtone import audio
from overtone.audio import Signal

MAX_LAG_SECONDS = 0.1


def aligned(made: Signal, full: Signal, rate: int) -> Signal:
    """An output without the delay of the tool that made it, as long as its input; `rate` is of both, Hz.

    Shape:
        (channels, samples'), (channels, samples) -> (channels, samples).
    """
    shift = lag(made, full, rate)
    moved = made[:, shift:] if shift > 0 else np.pad(made, ((0, 0), (-shift, 0)))
    return audio.fit_length(np.ascontiguousarray(moved, dtype=np.float32), full.shape[1])


def lag(signal: Signal, target: Signal, rate: int) -> int:
    """By how many samples a signal is late, at most `MAX_LAG_SECONDS`; 0 unless another lag fits clearly better."""
    length = min(signal.shape[1], target.shape[1], 30 * rate)
    late, right = (part[:, :length].mean(axis=0).astype(np.float64) for part in (signal, target))
    correlation = scipy.signal.correlate(late, right, mode="full", method="fft")
    most = min(round(MAX_LAG_SECONDS * rate), length - 1)
    near = correlation[length - 1 - most : length + most]
    best = int(near.argmax()) - most
    return best if near.max() > 1.01 * max(near[most], 0.0) and near.max() > 0.0 else 0
