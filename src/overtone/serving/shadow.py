"""A challenger computed beside the model for a share of the files, off the path of requests, and scored without a reference.

Both models are given the same excerpt. Scores: how much sound is made above the cutoff, whether it is a copied strip or has
a line at a hop rate (see `evaluation.texture`), how tonal it is, how far the two are from each other, how fast each is.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overtone import audio
from overtone.audio import Signal
from overtone.dsp.stft import analyse
from overtone.enhance.stream import Treatment
from overtone.evaluation import texture
from overtone.serving.errors import sentence_of
from overtone.serving.models import Loaded
from overtone.serving.statistics import Statistics

log = logging.getLogger("overtone.serving")
EXCERPT_SECONDS = 10.0
_FLOOR = 1e-12


@dataclass(frozen=True)
class Excerpt:
    """A piece of a file (channels, samples) at its own rate in Hz, and what was done to the file."""

    signal: Signal
    rate: int
    treatment: Treatment


def excerpt(source: audio.Source, info: audio.Info, treatment: Treatment) -> Excerpt:
    """The middle of a file; computes.

    Raises:
        AudioError: not usable audio.
    """
    length = round(EXCERPT_SECONDS * info.rate)
    signal, rate = audio.read(source, max(0, (info.frames - length) // 2), length)
    return Excerpt(signal, rate, treatment)


class Shadow:
    """The comparison of two models, one file at a time; files that come meanwhile are left out.

    Args:
        challenger: what the second model is named by; empty for none.
        share: of the files.
    """

    def __init__(self, challenger: str, share: float, statistics: Statistics) -> None:
        self.challenger, self._share, self._statistics = challenger, share, statistics
        self._busy = False

    def wanted(self) -> bool:
        """Whether the next file is one of the share."""
        return bool(self.challenger) and not self._busy and random.random() < self._share

    def compare(self, champion: Loaded, challenger: Loaded, given: Excerpt) -> None:
        """Add the scores of both models on an excerpt to the statistics; computes. Errors are logged."""
        self._busy = True
        try:
            self._statistics.compare(champion.version, challenger.version, compared(champion, challenger, given))
        except Exception as error:  # nothing of it may reach a request
            log.error("%s could not be compared with %s: %s", challenger.version, champion.version, sentence_of(error))
        finally:
            self._busy = False


def compared(champion: Loaded, challenger: Loaded, given: Excerpt) -> dict[str, tuple[float, float]]:
    """Scores of two models by metric, the champion's and the challenger's."""
    outputs, speeds, cutoff = [], [], given.treatment.cutoff_hz
    for loaded in (champion, challenger):
        begun = time.perf_counter()
        outputs.append(
            loaded.upsampler.enhance(
                given.signal,
                given.rate,
                mode=given.treatment.mode,
                cutoff_hz=cutoff,
                profile=given.treatment.profile,
                brightness_db=given.treatment.brightness_db,
            )
        )
        speeds.append(given.signal.shape[1] / given.rate / max(time.perf_counter() - begun, 1e-6))
    rate = champion.upsampler.rate
    one, other = (_scores(signal, rate, cutoff) for signal in outputs)
    scores = {name: (one[name], other[name]) for name in one}
    logs = [np.log10(_power_above(_spectra(signal), rate, cutoff) + _FLOOR) for signal in outputs]
    apart = float(np.sqrt(np.mean((logs[0] - logs[1]) ** 2, axis=1)).mean()) if logs[0].size else 0.0
    return {**scores, "real_time_factor": (speeds[0], speeds[1]), "distance": (0.0, apart)}


def _scores(signal: Signal, rate: int, cutoff_hz: float) -> dict[str, float]:
    found = _spectra(signal)
    power = _power_above(found, rate, cutoff_hz)
    return {
        "level_above_db": 10.0 * float(np.log10(power.mean() + _FLOOR)) if power.size else 0.0,
        "hop_line_db": float(texture.hop_lines_db(signal, rate, cutoff_hz).max()),
        "copies": texture.copies(found),
        "tonality_db": texture.tonality_db(power) or 0.0,
    }


def _spectra(signal: Signal) -> npt.NDArray[np.complex64]:
    """Shape: (channels, samples) -> (channels, bins, frames)."""
    return analyse(signal).transpose(0, 2, 1)


def _power_above(found: npt.NDArray[np.complex64], rate: int, cutoff_hz: float) -> npt.NDArray[np.float64]:
    """Powers of the bins above the cutoff. Shape: (channels, bins, frames)."""
    return np.abs(found[:, round(cutoff_hz / (rate / 2) * found.shape[1]) :]).astype(np.float64) ** 2
