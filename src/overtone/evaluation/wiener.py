"""A noise suppressor without learning: noise power by speech presence probability, decision-directed Wiener gain."""

from __future__ import annotations

import numpy as np
import scipy.signal

from overtone.audio import Signal, resample
from overtone.dsp.noise_estimate import NoiseEstimate
from overtone.dsp.stft import BINS, HOP, WINDOW

RATE = 48_000
_LOWEST_GAIN = 10.0 ** (-15.0 / 20.0)


class Wiener:
    """Suppresses steady noise, whatever the signal is; adds nothing above its band.

    Source: see `NoiseEstimate`.
    """

    informed = False

    def enhance(self, signal: Signal, rate: int, *, mode: str = "auto", cutoff_hz: float | None = None) -> Signal:
        """The signal (channels, samples) at 48 kHz, with one gain for all channels; `mode`, `cutoff_hz` have no effect."""
        full = resample(signal, rate, RATE)
        samples = full.shape[1]
        window = np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW)
        transform = scipy.signal.ShortTimeFFT(window, HOP, RATE)
        spectra = transform.stft(np.pad(full, ((0, 0), (0, max(0, WINDOW - samples)))))
        powers = np.asarray(np.mean(np.abs(spectra) ** 2, axis=0), np.float32)
        _, ratio = NoiseEstimate(1, BINS, _LOWEST_GAIN).advance(powers.T[None])
        gains = np.maximum(ratio[0] / (1.0 + ratio[0]), _LOWEST_GAIN).T
        made = transform.istft(spectra * gains, k1=max(samples, WINDOW))
        return np.ascontiguousarray(made[:, :samples], dtype=np.float32)
