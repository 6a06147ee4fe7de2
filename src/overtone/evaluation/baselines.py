"""Systems without learning: plain resampling, spectral band replication, and the concealment of lost packets."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import fft
from scipy.ndimage import uniform_filter1d
from torch import Tensor

from overtone.audio import Signal, resample
from overtone.dsp import conceal

RATE = 48_000
Mode = Literal["extend", "restore", "auto"]
_Real = npt.NDArray[np.float64]
_Complex = npt.NDArray[np.complex128]

_N_FFT = 2048
_HOP = 512
_STEP_HZ = RATE / _N_FFT
_RISE_HZ = 200.0
# Mean log10 power of 16-bit rounding in a bin of a 2048-sample Hann frame.
_ROUNDING = -7.4
# Share of the excess over the rounding (dB) that is lost at the cutoff, and its decay above, 1/kHz.
_SEAM, _DECAY = 0.10, 0.066
# Share of the cutoff above which the input is not trusted: its filter's transition band.
_EDGE = 0.92


class Sinc:
    """Band-limited resampling and nothing else: the floor that every other system has to beat."""

    informed = False

    def enhance(self, signal: Signal, rate: int, *, mode: Mode = "auto", cutoff_hz: float | None = None) -> Signal:
        """The signal (channels, samples) at 48 kHz; `mode` and `cutoff_hz` have no effect."""
        return resample(signal, rate, RATE)


class Concealer:
    """Fills lost packets by linear prediction at the signal's own rate, and resamples; adds nothing else anywhere."""

    informed = False

    def enhance(self, signal: Signal, rate: int, *, mode: Mode = "auto", cutoff_hz: float | None = None) -> Signal:
        """The signal at 48 kHz; arguments as of `Sinc`."""
        return resample(conceal.concealed(signal, rate), rate, RATE)


class SpectralBandReplication:
    """Copies the upper part of the available band into the missing one and shapes its level, frame by frame.

    The level at the cutoff is measured in each frame just below it. What it exceeds the rounding noise by (in dB) is taken
    to shrink by a fixed share at the cutoff and by a fixed share with every kHz above. Slopes fitted to the known band
    predict the missing band worse than this on natural recordings: voices and instruments fall towards the recording's
    noise floor, the faster the louder they are.

    The level belongs to all channels together, the copied content to each: the stereo image of the source band carries
    over, and equal channels stay equal.

    Source: copy-up as in Dietz et al., "Spectral Band Replication" (AES 2002), with a blind envelope.
    """

    def enhance(self, signal: Signal, rate: int, *, mode: Mode = "auto", cutoff_hz: float | None = None) -> Signal:
        """The signal at 48 kHz with the band above the cutoff filled in; below it the signal is that of `Sinc`.

        Args:
            rate: the signal's rate, Hz.
            mode: without effect: damage below the cutoff is passed through.
            cutoff_hz: where the missing band begins, Hz; None measures where the spectrum drops to 16-bit rounding, at
                most half the rate.

        Shape:
            (channels, samples) -> (channels, samples at 48 kHz).
        """
        full = resample(signal, rate, RATE)
        if not np.any(full):
            return full
        spectra = _analyse(full)
        power = np.mean(spectra.real**2 + spectra.imag**2, axis=0)
        cutoff = min(rate / 2, _measured_cutoff(power) if cutoff_hz is None else cutoff_hz)
        top = int(_EDGE * cutoff / _STEP_HZ)
        first = int(cutoff / _STEP_HZ) + 1
        # A source band of fewer bins than this (300 Hz) holds nothing to copy, and above the last bin nothing is missing.
        if top // 2 < 13 or first >= len(power):
            return full
        missing = _replicated(spectra, np.log10(np.maximum(power, 1e-12)), top, first, cutoff)
        return full + _above(_synthesise(missing, full.shape[1]), cutoff)


def _replicated(spectra: _Complex, level: _Real, top: int, first: int, cutoff: float) -> _Complex:
    """Spectra (channels, bins, frames) that hold only the missing band, from bin `first` on."""
    bins, frames = level.shape
    source = np.arange(top // 2, top)
    missing = np.arange(first, bins)
    origin = source[(missing - first) % len(source)]
    smooth = uniform_filter1d(uniform_filter1d(level, 25, axis=0), 5, axis=1)
    # A frame whose source lies in the rounding has no excess: nothing is added to silence.
    edge = uniform_filter1d(level[source].mean(axis=0), 5)
    excess = np.maximum(edge - _ROUNDING, 0.0)
    height_khz = np.maximum(missing * _STEP_HZ - cutoff, 0.0) / 1000.0
    wanted = excess * (1.0 - _SEAM) * np.exp(-_DECAY * height_khz)[:, None]
    # The rounding noise itself comes with the output's own rounding, so only what exceeds it is made.
    gain = np.sqrt(10.0**_ROUNDING * (10.0**wanted - 1.0) / 10.0 ** np.maximum(smooth[origin], _ROUNDING))
    # Moving a bin by k turns its phase by 2 pi k hop / n_fft from frame to frame.
    turn = np.exp(2j * np.pi * _HOP / _N_FFT * np.outer(missing - origin, np.arange(frames)))
    out = np.zeros_like(spectra)
    out[:, missing] = spectra[:, origin] * (gain * turn)
    return out


def _window() -> Tensor:
    return torch.hann_window(_N_FFT, periodic=True, dtype=torch.float64)


def _analyse(signal: Signal) -> _Complex:
    """Spectra (channels, 1025, frames) of a signal (channels, samples), zero-padded to one window at least."""
    padded = np.pad(signal, ((0, 0), (0, max(0, _N_FFT - signal.shape[1])))).astype(np.float64)
    spectra = torch.stft(torch.from_numpy(padded), _N_FFT, _HOP, window=_window(), center=True, return_complex=True)
    result: _Complex = spectra.numpy()
    return result


def _synthesise(spectra: _Complex, samples: int) -> _Real:
    signal = torch.istft(
        torch.from_numpy(spectra), _N_FFT, _HOP, window=_window(), center=True, length=max(samples, _N_FFT)
    )
    result: _Real = signal[:, :samples].numpy()
    return result


def _measured_cutoff(power: _Real) -> float:
    """The highest frequency (Hz) that a tenth of the frames hold 10 dB above 16-bit rounding; 24 kHz if none does."""
    loud = np.quantile(power, 0.9, axis=1)
    heard = np.flatnonzero(loud > 10.0 ** (_ROUNDING + 1.0))
    return float(heard[-1] * _STEP_HZ) if len(heard) else RATE / 2


def _above(signal: _Real, cutoff: float) -> Signal:
    """Only what lies above the cutoff (Hz): frames leak a little downwards, and below nothing may be touched.

    The filter rises over 200 Hz above the cutoff, so that it rings for no more than some 5 ms.
    """
    samples = signal.shape[1]
    rise = np.clip((fft.rfftfreq(samples, 1.0 / RATE) - cutoff) / _RISE_HZ, 0.0, 1.0)
    # As long as the signal, not padded: cut off afterwards, it would not be exactly empty below the cutoff.
    kept = fft.irfft(fft.rfft(signal, axis=1) * np.sin(0.5 * np.pi * rise) ** 2, samples, axis=1)
    return np.asarray(kept, dtype=np.float32)
