"""Stages that a signal goes through in blocks: each takes samples with `push` and gives those that it knows by then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import soxr

from overtone import audio
from overtone.audio import Signal


class Stage(Protocol):
    """What samples (channels, samples) go through in blocks of any size; the result does not depend on how they are cut."""

    def push(self, block: Signal, /) -> Signal:
        """Take a block; give the samples that are now known."""

    def finish(self) -> Signal:
        """The remaining samples."""


class Resampler:
    """The same signal at another rate.

    Args:
        source, target: rates in Hz.
    """

    def __init__(self, source: int, target: int, channels: int) -> None:
        self._resampler = soxr.ResampleStream(source, target, channels, quality="VHQ")
        self._channels = channels

    def push(self, block: Signal) -> Signal:
        return self._resampler.resample_chunk(block.T).T

    def finish(self) -> Signal:
        return self._resampler.resample_chunk(np.zeros((0, self._channels), np.float32), last=True).T


def through(stages: Sequence[Stage], blocks: Iterable[Signal]) -> Iterator[Signal]:
    """A signal after one stage and the next."""
    for stage in stages:
        blocks = _through(stage, blocks)
    return iter(blocks)


def _through(stage: Stage, blocks: Iterable[Signal]) -> Iterator[Signal]:
    for block in blocks:
        yield stage.push(block)
    yield stage.finish()


def regrouped(blocks: Iterable[Signal], size: int) -> Iterator[Signal]:
    """The same samples in blocks of at least `size`, but the last."""
    held: list[Signal] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += block.shape[1]
        if count >= size:
            yield np.concatenate(held, axis=1)
            held, count = [], 0
    if count:
        yield np.concatenate(held, axis=1)


def fitted(blocks: Iterable[Signal], length: Callable[[], int]) -> Iterator[Signal]:
    """The same samples, cut or padded at their end.

    Args:
        length: gives the number of samples that there shall be; asked when all have come.
    """
    held: Signal | None = None
    written = 0
    for block in blocks:
        if held is not None:
            yield held
            written += held.shape[1]
        held = block
    if held is not None:
        yield audio.fit_length(held, length() - written)
