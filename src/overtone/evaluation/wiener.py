"""A noise suppressor without learning: noise power by speech presence probability, decision-directed Wiener gain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal

from overtone.audio import Signal, resample

RATE = 48_000
_WINDOW, _HOP = 1024, 512
# Gerkmann and Hendriks: a-priori SNR where speech is present (15 dB), smoothing of the noise and of the probability.
_PRESENT = 10.0**1.5
_NOISE_MEMORY, _PRESENCE_MEMORY, _STUCK = 0.8, 0.9, 0.99
_DECISION = 0.96
_LOWEST_SNR, _LOWEST_GAIN = 10.0**-2.5, 10.0 ** (-15.0 / 20.0)
_FIRST_FRAMES = 6
_TINY = 1e-14

Floats = npt.NDArray[np.float64]


class Wiener:
    """Suppresses steady noise, whatever the signal is; adds nothing above its band.

    Source: Gerkmann and Hendriks, "Unbiased MMSE-based noise power estimation with low complexity and low tracking delay"
    (2012); decision-directed a-priori SNR: Ephraim and Malah (1984).
    """

    informed = False

    def enhance(self, signal: Signal, rate: int, *, mode: str = "auto", cutoff_hz: float | None = None) -> Signal:
        """The signal (channels, samples) at 48 kHz, with one gain for all channels; `mode`, `cutoff_hz` have no effect."""
        full = resample(signal, rate, RATE)
        samples = full.shape[1]
        window = np.sin(np.pi * (np.arange(_WINDOW) + 0.5) / _WINDOW)
        transform = scipy.signal.ShortTimeFFT(window, _HOP, RATE)
        padded = np.pad(full, ((0, 0), (0, max(0, _WINDOW - samples)))).astype(np.float64)
        spectra = transform.stft(padded)
        gains = _gains(np.mean(np.abs(spectra) ** 2, axis=0))
        made = transform.istft(spectra * gains, k1=padded.shape[1])
        return np.ascontiguousarray(made[:, :samples], dtype=np.float32)


def _gains(power: Floats) -> Floats:
    """The gain of each bin in each frame, from powers (bins, frames)."""
    gains = np.ones_like(power)
    noise = power[:, :_FIRST_FRAMES].mean(axis=1) + _TINY
    presence = np.full(len(noise), 0.5)
    clean = np.zeros(len(noise))
    for frame, now in enumerate(power.T):
        likely = 1.0 / (1.0 + (1.0 + _PRESENT) * np.exp(-np.minimum(now / noise, 200.0) * _PRESENT / (1.0 + _PRESENT)))
        presence = _PRESENCE_MEMORY * presence + (1.0 - _PRESENCE_MEMORY) * likely
        likely = np.where(presence > _STUCK, np.minimum(likely, _STUCK), likely)
        noise = _NOISE_MEMORY * noise + (1.0 - _NOISE_MEMORY) * (likely * noise + (1.0 - likely) * now) + _TINY
        snr = _DECISION * clean / noise + (1.0 - _DECISION) * np.maximum(now / noise - 1.0, 0.0)
        snr = np.maximum(snr, _LOWEST_SNR)
        gain = np.maximum(snr / (1.0 + snr), _LOWEST_GAIN)
        clean = gain**2 * now
        gains[:, frame] = gain
    return gains
