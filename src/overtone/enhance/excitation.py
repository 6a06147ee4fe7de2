"""What wears the predicted envelope above the cutoff: seeded noise, and where the known band is tonal a tonal part.

The noise is the transform of one waveform, so that its frames fit together. The tonal part is the transform of the signal's
full-wave rectification: it has the harmonics and combination tones of what sounds below the cutoff, at their true
frequencies, and repeats no strip of the spectrum. Rectifying a windowed frame is the same as windowing the rectified signal,
since the window is never negative, so both need no samples beyond the frame.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from overtone.dsp import bands, stft
from overtone.dsp.stft import BINS, HOP, WINDOW

# Frames whose mean power shows whether bins differ by more than noise does.
_MEMORY = 8
# Bins on each side that a bin is compared with.
_NEIGHBOURS = 7
# log10 power by which the mean of the logs lies below the log of the mean: of averaged noise, and of clear partials.
_NOISY, _TONAL = 0.08, 0.4
# Share of the power that the tonal part has at most, just above the cutoff.
_MOST = 0.7


class Excitation:
    """Makes spectra of unit power in every bin, frame by frame; what comes out does not depend on how frames are cut.

    Args:
        channels: each has a noise of its own.
        cutoff_hz: above which sound is made.
        rate: canonical rate in Hz.
        seed: of the noise.
    """

    def __init__(self, channels: int, cutoff_hz: float, rate: int, seed: int = 0) -> None:
        self._generators = [np.random.default_rng((seed, channel)) for channel in range(channels)]
        self._noise = torch.zeros(channels, 0)
        self._power: Tensor | None = None
        top = int(bands.VISIBLE * cutoff_hz * WINDOW / rate)
        # The upper half of the known band says how tonal the band above it is.
        self._known = slice(max(top // 2, 4), max(top, 8))
        hz = torch.arange(BINS) * (rate / WINDOW)
        self._reach = _MOST * torch.exp(-(hz - cutoff_hz).clamp(min=0) / cutoff_hz)

    def push(self, spectrum: Tensor) -> Tensor:
        """Excitation for some frames. Shape: complex (C, N, BINS) -> complex (C, N, BINS)."""
        frames = spectrum.shape[1]
        noise = self._noises(frames)
        tonality = self._tonality(spectrum)
        if not bool(tonality.any()):
            return noise
        share = tonality[..., None] * self._reach
        return torch.sqrt(1 - share) * noise + torch.sqrt(share) * _rectified(spectrum)

    def _noises(self, frames: int) -> Tensor:
        wanted = (frames + 1) * HOP - self._noise.shape[1]
        drawn = np.stack([generator.standard_normal(wanted) for generator in self._generators]).astype(np.float32)
        self._noise = torch.cat((self._noise, torch.from_numpy(drawn)), dim=1)
        spectrum = stft.spectra(self._noise) / (WINDOW / 2) ** 0.5
        self._noise = self._noise[:, -HOP:]
        return spectrum

    def _tonality(self, spectrum: Tensor) -> Tensor:
        """How tonal the upper known band is, 0 to 1. Shape: (C, N, BINS) -> (C, N)."""
        power = spectrum[..., self._known].abs().square()
        past = power[:, :1].expand(-1, _MEMORY - 1, -1) if self._power is None else self._power
        joined = torch.cat((past, power), dim=1)
        self._power = joined[:, -(_MEMORY - 1) :]
        mean = joined.unfold(1, _MEMORY, 1).mean(-1) + bands.FLOOR
        near = torch.nn.functional.avg_pool1d(
            mean, 2 * _NEIGHBOURS + 1, stride=1, padding=_NEIGHBOURS, count_include_pad=False
        )
        gap = (torch.log10(near) - torch.log10(mean)).mean(-1)
        return ((gap - _NOISY) / (_TONAL - _NOISY)).clamp(0, 1)


def _rectified(spectrum: Tensor) -> Tensor:
    """The transform of the rectified signal, each band brought to unit power. Shape: complex (C, N, BINS) in and out."""
    frames = torch.fft.irfft(spectrum, n=WINDOW, dim=-1).abs()
    made: Tensor = torch.fft.rfft(frames, dim=-1)
    return made * 10 ** (-0.5 * bands.to_bins(bands.band_levels(made)))
