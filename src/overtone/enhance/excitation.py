"""What wears the predicted envelope above the cutoff: seeded noise, and where the known band is tonal a tonal part.

The noise is the transform of one waveform, so that its frames fit together. The tonal part is made of strips of the known
band, each moved up by an even number of bins (with a hop of half a window a steady tone then keeps turning as it should).
No two neighbouring strips are the same, and each is delayed a little, so that nothing is heard or measured as one strip again
and again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from overtone.dsp import bands, stft
from overtone.dsp.backend import Array, like, namespace, sliding
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
        self._noise = np.zeros((channels, 0), np.float32)
        self._power: Any = None
        top = int(bands.VISIBLE * cutoff_hz * WINDOW / rate)
        # The upper half of the known band says how tonal the band above it is.
        self._known = slice(max(top // 2, 4), max(top, 8))
        above = (stft.bin_hz(rate) - np.float32(cutoff_hz)).clip(min=0)
        self._above = -above / np.float32(cutoff_hz)
        self._strips = _strips(top)

    def push(self, spectrum: Array) -> Array:
        """Excitation for some frames. Shape: complex (C, N, BINS) -> complex (C, N, BINS)."""
        xp = namespace(spectrum)
        noise = self._noises(spectrum)
        tonality = self._tonality(spectrum)
        if not bool((tonality > 0).any()):
            return noise
        share = tonality[..., None] * (_MOST * xp.exp(like(self._above, tonality)))
        mixed: Array = xp.sqrt(1 - share) * noise + xp.sqrt(share) * self._moved(spectrum)
        return mixed

    def _noises(self, spectrum: Array) -> Array:
        """As many frames of noise as there are of the spectrum."""
        wanted = (spectrum.shape[1] + 1) * HOP - self._noise.shape[1]
        drawn = np.stack([generator.standard_normal(wanted) for generator in self._generators]).astype(np.float32)
        noise = np.concatenate((self._noise, drawn), axis=1)
        self._noise = noise[:, -HOP:]
        made: Array = stft.spectra(like(noise, spectrum)) / (WINDOW / 2) ** 0.5
        return made

    def _tonality(self, spectrum: Array) -> Array:
        """How tonal the upper known band is, 0 to 1. Shape: (C, N, BINS) -> (C, N)."""
        xp = namespace(spectrum)
        power = xp.square(xp.abs(spectrum[..., self._known]))
        past = self._power
        if past is None:
            past = xp.broadcast_to(power[:, :1], (len(power), _MEMORY - 1, power.shape[2]))
        joined = xp.concatenate((past, power), axis=1)
        self._power = joined[:, -(_MEMORY - 1) :]
        mean = xp.mean(sliding(joined, _MEMORY, 1), axis=-1) + bands.FLOOR
        gap = xp.mean(xp.log10(_neighbourhood(mean)) - xp.log10(mean), axis=-1)
        tonality: Array = xp.clip((gap - _NOISY) / (_TONAL - _NOISY), 0, 1)
        return tonality

    def _moved(self, spectrum: Array) -> Array:
        """Strips of the known band moved up, each band brought to unit power. Shape: complex (C, N, BINS) in and out."""
        origin, phase = (like(values, spectrum) for values in self._strips)
        made = spectrum[..., origin] * namespace(spectrum).exp(phase)
        moved: Array = made * 10 ** (-0.5 * bands.to_bins(bands.band_levels(made)))
        return moved


def _neighbourhood(power: Array) -> Array:
    """Mean over each bin and its `_NEIGHBOURS` on both sides, as far as there are some. Shape: (C, N, K) in and out."""
    size = 2 * _NEIGHBOURS + 1
    if isinstance(power, np.ndarray):
        mean = uniform_filter1d(power, size, axis=-1, mode="constant")
        return mean / uniform_filter1d(np.ones_like(power[0, 0]), size, mode="constant")
    pool = namespace(power).nn.functional.avg_pool1d
    near: Array = pool(power, size, stride=1, padding=_NEIGHBOURS, count_include_pad=False)
    return near


def _strips(top: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.complex64]]:
    """For each bin the one below `top` that it is made of, and i times the phase that delays it. Shape: twice (BINS,)."""
    width = max((top - _LOWEST) // 4 * 2, 2)
    origin, phase = np.arange(BINS), np.zeros(BINS, np.complex64)
    for strip, start in enumerate(range(top, BINS, width)):
        bins = np.arange(start, min(start + width, BINS))
        # The strips' beginnings take turns: the upper half of the known band, a third of a strip lower, two thirds lower.
        first = max(top - width - strip % 3 * (width // 3), _LOWEST)
        first += (start - first) % 2
        origin[bins] = (bins - start + first).clip(max=max(top - 1, 0))
        phase[bins] = np.complex64(-2j * np.pi) * bins.astype(np.float32) * np.float32(_DELAY * (strip + 1) / WINDOW)
    return origin, phase
