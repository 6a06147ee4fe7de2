"""A challenger computed beside the model for a share of the files, off the path of requests, and scored without a reference.

Both models are given the same excerpt. Scores: how much sound is made above the cutoff, whether it is a copied strip or has
a line at a hop rate (see `evaluation.texture`), how tonal it is, how far the two are from each other, how fast each is.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from overtone import audio
from overtone.audio import Signal
from overtone.dsp.stft import analyse
from overtone.enhance.stream import Treatment
from overtone.evaluation import texture
from overtone.serving.enhancement import Enhancement
from overtone.serving.errors import sentence_of
from overtone.serving.models import Loaded, ModelCache
from overtone.serving.statistics import Statistics

log = logging.getLogger("overtone.serving")
EXCERPT_SECONDS = 10.0
_FLOOR = 1e-12


class Shadow:
    """The comparison of two models, one file at a time; files that come meanwhile are left out.

    Args:
        challenger: what the second model is named by; empty for none.
        share: of the files.
        compute: runs a call that takes long.
    """

    def __init__(
        self,
        challenger: str,
        share: float,
        models: ModelCache,
        statistics: Statistics,
        compute: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._challenger, self._share, self._models = challenger, share, models
        self._statistics, self._compute = statistics, compute
        self._task: asyncio.Task[None] | None = None

    async def take(self, work: Enhancement) -> None:
        """Begin to compare both models on the middle of a file that was enhanced, if it is one of the share."""
        if not self._challenger or random.random() >= self._share or (self._task and not self._task.done()):
            return
        length = round(EXCERPT_SECONDS * work.info.rate)
        start = max(0, (work.info.frames - length) // 2)
        excerpt, rate = await asyncio.to_thread(audio.read, work.file, start, length)
        self._task = asyncio.get_running_loop().create_task(self._compared(work, excerpt, rate))

    async def close(self) -> None:
        """Compare no more."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _compared(self, work: Enhancement, excerpt: Signal, rate: int) -> None:
        try:
            both = work.loaded, await self._models.get(self._challenger)
            scores = await self._compute(lambda: compared(both, excerpt, rate, work.treatment))
            await asyncio.to_thread(self._statistics.compare, both[0].version, both[1].version, scores)
        except Exception as error:  # nothing of it may reach a request
            log.error("%s cannot be compared with the model: %s", self._challenger, sentence_of(error))


def compared(
    models: tuple[Loaded, Loaded], excerpt: Signal, rate: int, treatment: Treatment
) -> dict[str, tuple[float, float]]:
    """Scores of two models by metric, made of the same excerpt (channels, samples) at `rate` in Hz; computes."""
    outputs, speeds, own_rate, cutoff = [], [], models[0].upsampler.rate, treatment.cutoff_hz
    for model in models:
        begun = time.perf_counter()
        outputs.append(
            model.upsampler.enhance(
                excerpt,
                rate,
                mode=treatment.mode,
                cutoff_hz=cutoff,
                profile=treatment.profile,
                brightness_db=treatment.brightness_db,
            )
        )
        speeds.append(excerpt.shape[1] / rate / max(time.perf_counter() - begun, 1e-6))
    one, other = (_scores(signal, own_rate, cutoff) for signal in outputs)
    logs = [np.log10(_power_above(_spectra(signal), own_rate, cutoff) + _FLOOR) for signal in outputs]
    apart = float(np.sqrt(np.mean((logs[0] - logs[1]) ** 2, axis=1)).mean()) if logs[0].size else 0.0
    scores = {name: (one[name], other[name]) for name in one}
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
