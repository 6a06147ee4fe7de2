"""What wears the predicted envelope above the cutoff: seeded noise, and where the known band is tonal a tonal part.

The noise is the transform of one waveform, so that its frames fit together. The tonal part is made of strips of the known
band, each moved up by an even number of bins (with a hop of half a window a steady tone then keeps turning as it should).
No two neighbouring strips are the same, and each is delayed a little, so that nothing is heard or measured as one strip again
and again.
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
_MOST = 0.85
# Samples by which each strip is delayed more than the one below it, and the lowest bin that is moved.
_DELAY, _LOWEST = 11, 6


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
        self._origin, self._turn = _strips(top)

    def push(self, spectrum: Tensor) -> Tensor:
        """Excitation for some frames. Shape: complex (C, N, BINS) -> complex (C, N, BINS)."""
        frames = spectrum.shape[1]
        noise = self._noises(frames)
        tonality = self._tonality(spectrum)
        if not bool(tonality.any()):
            return noise
        share = tonality[..., None] * self._reach
        mixed: Tensor = torch.sqrt(1 - share) * noise + torch.sqrt(share) * self._moved(spectrum)
        return mixed

    def _noises(self, frames: int) -> Tensor:
        wanted = (frames + 1) * HOP - self._noise.shape[1]
        drawn = np.stack([generator.standard_normal(wanted) for generator in self._generators]).astype(np.float32)
        self._noise = torch.cat((self._noise, torch.from_numpy(drawn)), dim=1)
        spectrum: Tensor = stft.spectra(self._noise) / (WINDOW / 2) ** 0.5
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

    def _moved(self, spectrum: Tensor) -> Tensor:
        """Strips of the known band moved up, each band brought to unit power. Shape: complex (C, N, BINS) in and out."""
        made = spectrum[..., self._origin] * self._turn
        return made * 10 ** (-0.5 * bands.to_bins(bands.band_levels(made)))


def _strips(top: int) -> tuple[Tensor, Tensor]:
    """For each bin the one below `top` that it is made of, and the turn of phase that delays it. Shape: twice (BINS,)."""
    width = max((top - _LOWEST) // 4 * 2, 2)
    origin, turn = torch.arange(BINS), torch.ones(BINS, dtype=torch.complex64)
    for strip, start in enumerate(range(top, BINS, width)):
        bins = torch.arange(start, min(start + width, BINS))
        # The strips' beginnings take turns: the upper half of the known band, a third of a strip lower, two thirds lower.
        first = max(top - width - strip % 3 * (width // 3), _LOWEST)
        first += (start - first) % 2
        origin[bins] = (bins - start + first).clamp(max=max(top - 1, 0))
        turn[bins] = torch.exp(-2j * torch.pi * bins * (_DELAY * (strip + 1) / WINDOW)).to(torch.complex64)
    return origin, turn
