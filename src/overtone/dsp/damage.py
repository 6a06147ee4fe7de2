"""What is wrong with a recording, as far as it can be repaired: lost packets, clipped samples, noise behind a voice."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from overtone.audio import Signal
from overtone.dsp.declip import clipped_samples
from overtone.dsp.gaps import find_gaps
from overtone.dsp.noise_detector import noise_behind_voice

# From these shares of the samples on something is repaired.
_LOST, _CLIPPED = 0.002, 5e-4


@dataclass(frozen=True)
class Damage:
    """What was found.

    Attributes:
        lost: share of the samples that are lost.
        clipped: share of the samples that are clipped.
        snr_db: level of a voice over the noise behind it; inf where there is no such noise, or no voice.
    """

    lost: float = 0.0
    clipped: float = 0.0
    snr_db: float = math.inf

    @property
    def conceal(self) -> bool:
        """Whether lost packets are worth filling."""
        return self.lost >= _LOST

    @property
    def declip(self) -> bool:
        """Whether clipped samples are worth repairing."""
        return self.clipped >= _CLIPPED

    @property
    def denoise(self) -> bool:
        """Whether a voice is to be freed of noise."""
        return self.snr_db < math.inf

    @property
    def any(self) -> bool:
        """Whether anything is to be repaired."""
        return self.conceal or self.declip or self.denoise


def examine(excerpts: Iterable[Signal], rate: int) -> Damage:
    """Look at excerpts of a recording.

    Args:
        excerpts: (channels, samples) each, full scale 1.0, at the recording's own rate.
        rate: Hz.
    """
    heard = [excerpt for excerpt in excerpts if excerpt.shape[1]]
    samples = sum(excerpt.size for excerpt in heard)
    if not samples:
        return Damage()
    lost = sum(float(find_gaps(excerpt, rate).sum()) * len(excerpt) for excerpt in heard) / samples
    clipped = sum(int(clipped_samples(row).sum()) for excerpt in heard for row in excerpt) / samples
    return Damage(lost, clipped, noise_behind_voice(heard, rate))
