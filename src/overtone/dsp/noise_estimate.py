"""The noise behind a signal, followed frame by frame: its power, and how far the signal stands out of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Powers = npt.NDArray[np.float32]

# Gerkmann and Hendriks: a-priori ratio where a voice is present (15 dB), memories of the noise and of the presence, and the
# presence from which on the noise is let rise.
_PRESENT = 10.0**1.5
_NOISE_MEMORY, _PRESENCE_MEMORY, _STUCK = 0.8, 0.9, 0.99
# Ephraim and Malah: share of the frame before in the a-priori ratio; its least value.
_DECISION, _LEAST_RATIO = 0.96, 10.0**-2.5
# The first frames that are not silent are taken for noise. Silence (mean power) tells nothing of it.
_FIRST_FRAMES, _SILENT = 6, 1e-8
# Power that noise has before the first sound, and that keeps it above zero.
_UNKNOWN, _TINY = 1e-10, 1e-12


class NoiseEstimate:
    """Estimates noise from the frames so far; no look-ahead.

    Source: Gerkmann and Hendriks, "Unbiased MMSE-based noise power estimation with low complexity and low tracking delay"
    (2012); decision-directed a-priori ratio: Ephraim and Malah (1984).

    Args:
        batch: signals followed side by side.
        bands: of each.
        lowest_gain: below which the Wiener gain of the frame before is taken not to have fallen, amplitude, 0 to 1.
    """

    def __init__(self, batch: int, bands: int, lowest_gain: float = 0.0) -> None:
        self._lowest_gain = np.float32(lowest_gain)
        self._noise = np.full((batch, bands), _UNKNOWN, np.float32)
        self._presence = np.full((batch, bands), 0.5, np.float32)
        self._clean = np.zeros((batch, bands), np.float32)
        self._frames = np.zeros((batch, 1), np.int64)

    def advance(self, powers: Powers) -> tuple[Powers, Powers]:
        """Power of the noise, and a-priori ratio of signal to noise power, of the next frames.

        Shape:
            (B, N, bands) -> twice (B, N, bands).
        """
        noises, ratios = np.empty_like(powers), np.empty_like(powers)
        sounding = powers.mean(axis=2, keepdims=True) > _SILENT
        for frame in range(powers.shape[1]):
            now = powers[:, frame]
            self._follow(now, sounding[:, frame])
            known = np.maximum(now / self._noise - 1, 0)
            ratio = np.maximum(_DECISION * self._clean / self._noise + (1 - _DECISION) * known, _LEAST_RATIO)
            self._clean = np.square(np.maximum(ratio / (1 + ratio), self._lowest_gain)) * now
            noises[:, frame], ratios[:, frame] = self._noise, ratio
        return noises, ratios

    def _follow(self, now: Powers, sounding: npt.NDArray[np.bool_]) -> None:
        weight = np.float32(_PRESENT / (1 + _PRESENT))
        likely = 1 / (1 + np.float32(1 + _PRESENT) * np.exp(-weight * np.minimum(now / self._noise, 200)))
        presence = _PRESENCE_MEMORY * self._presence + (1 - _PRESENCE_MEMORY) * likely
        likely = np.where(presence > _STUCK, np.minimum(likely, _STUCK), likely)
        later = (1 - _NOISE_MEMORY) * (1 - likely)
        change = np.where(self._frames < _FIRST_FRAMES, 1 / (self._frames + 1), later).astype(np.float32)
        self._noise = np.where(sounding, self._noise + change * (now - self._noise) + _TINY, self._noise)
        self._presence = np.where(sounding, presence, self._presence)
        self._frames = np.minimum(self._frames + sounding, _FIRST_FRAMES)
