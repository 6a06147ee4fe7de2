"""Aligned crops of pairs for training, drawn at random but repeatably; whole pairs for validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from overtone import audio, conceal
from overtone.data import degrade
from overtone.data.pairs import Pair, PairsError, read_input
from overtone.params import DegradeParams, Step

# So many crops of damaged pairs count as damaged throughout: a repair that is never heard could not get good enough to be
# preferred to the input.
OPENED = 0.4


class Crop(TypedDict):
    """One training example.

    Shapes: input, target (samples,), full scale 1.0; concealed (samples,), 1 where the input stands in for lost samples;
    cutoff_hz, bandwidth_hz () in Hz; restore () bool; opened () bool, whether all of it counts as damaged.
    """

    input: Tensor
    target: Tensor
    concealed: Tensor
    cutoff_hz: Tensor
    bandwidth_hz: Tensor
    restore: Tensor
    opened: Tensor


class CropSampler(Sampler[int]):
    """Numbers of examples: each epoch continues where the last stopped, and each rank takes every `world`-th.

    The number of an example is all that decides it (see `RandomCrops`), so a resumed run sees the same data.
    """

    def __init__(self, per_epoch: int, rank: int = 0, world: int = 1) -> None:
        self.per_epoch = per_epoch
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.per_epoch // self.world

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.per_epoch
        return iter(range(start + self.rank, start + len(self) * self.world, self.world))


@dataclass(frozen=True)
class Stored:
    """A pair and where its audio is: `find("input")`, `find("target")`."""

    pair: Pair
    find: Callable[[str], audio.Source]


class Cutter:
    """Cuts crops out of pairs at random.

    Of stereo pairs one of left, right, mid and side is taken. A share of the crops gets a fresh band limit or damage made
    from the target, so that no two epochs see the same filters and noises.

    Args:
        samples: length of a crop.
        redraw: share of the crops whose band limit or damage is drawn afresh.
        ranges: that fresh ones are drawn from.
        noises: recordings for them.
    """

    def __init__(self, samples: int, redraw: float, ranges: DegradeParams, noises: Sequence[audio.Signal]) -> None:
        self.samples = samples
        self.redraw = redraw
        self.narrowband = ranges.narrowband
        stored_only = {name: 0.0 for name in ranges.damage.weights if name == "codec"}
        self.damage = ranges.damage.model_copy(update={"weights": {**ranges.damage.weights, **stored_only}})
        self._can_damage = any(self.damage.weights.values())
        self.noises = noises

    def crop(self, stored: Stored, rng: np.random.Generator) -> Crop:
        pair = stored.pair
        start = int(rng.integers(max(pair.frames - self.samples, 0) + 1))
        target, _ = audio.read(stored.find("target"), start, self.samples)
        cutoff = pair.cutoff_hz
        choice = int(rng.integers(4))
        target = _one_channel(target, choice)
        if rng.random() < self.redraw and (pair.mode == "extend" or self._can_damage):
            steps = self._draw(pair, rng)
            fresh = degrade.apply(steps, target, pair.rate, rng, self.noises)
            # As it would have been stored; loud noise clips.
            signal = np.clip(np.round(fresh * 32768.0) / 32768.0, -1.0, 32767.0 / 32768.0).astype(np.float32)
            cutoff = degrade.cutoff_of(steps, pair.rate)
        else:
            signal, _ = audio.read(stored.find("input"), start, self.samples)
        signal, marks = (_one_channel(audio.fit_length(s, self.samples), choice) for s in _as_heard(signal, pair))
        opened = pair.mode == "restore" and bool(rng.random() < OPENED)
        return _crop(signal, marks, audio.fit_length(target, self.samples), cutoff, pair, opened)

    def _draw(self, pair: Pair, rng: np.random.Generator) -> tuple[Step, ...]:
        if pair.mode == "extend":
            return (degrade.draw_narrowband(self.narrowband, rng),)
        return degrade.draw_damage(self.damage, self.narrowband, rng)


class RandomCrops(Dataset[Crop]):
    """An endless set of crops, example i drawn by a generator seeded with (seed, i); longer pairs are drawn more often.

    Args:
        folder: the folder that the pairs' paths are relative to.
        samples, redraw, ranges, noises: of the `Cutter`.
    """

    def __init__(
        self,
        pairs: list[Pair],
        folder: Path,
        samples: int,
        seed: int,
        redraw: float,
        ranges: DegradeParams,
        noises: Sequence[audio.Signal],
    ) -> None:
        if not pairs:
            raise PairsError(f"{folder}: no training pairs; expected at least one clip of speech or music in the split")
        self.pairs = pairs
        self.folder = folder
        self.seed = seed
        self.cutter = Cutter(samples, redraw, ranges, noises)
        frames = np.array([pair.frames for pair in pairs], dtype=np.float64)
        self._reach = np.cumsum(frames / frames.sum())

    def __getitem__(self, number: int) -> Crop:
        rng = np.random.default_rng((self.seed, number))
        pair = self.pairs[min(int(np.searchsorted(self._reach, rng.random(), side="right")), len(self.pairs) - 1)]
        return self.cutter.crop(in_folder(pair, self.folder), rng)


class Excerpts(Dataset[Crop], ABC):
    """The middle of each of some pairs (mid channel of stereo), for validation: the same excerpts every time."""

    samples: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def stored(self, index: int) -> Stored:
        """A pair by its number."""

    def __getitem__(self, index: int) -> Crop:
        stored = self.stored(index)
        pair = stored.pair
        start = max(pair.frames - self.samples, 0) // 2
        given = read_input(stored.find("input"), pair, start, min(self.samples, pair.frames - start))
        original, _ = audio.read(stored.find("target"), start, self.samples)
        signals = (*_as_heard(given, pair), original)
        signal, marks, target = (_one_channel(audio.fit_length(s, self.samples), 2) for s in signals)
        return _crop(signal, marks, target, pair.cutoff_hz, pair)


class Centres(Excerpts):
    """The middles of the pairs of a folder."""

    def __init__(self, pairs: list[Pair], folder: Path, samples: int) -> None:
        self.pairs = pairs
        self.folder = folder
        self.samples = samples

    def __len__(self) -> int:
        return len(self.pairs)

    def stored(self, index: int) -> Stored:
        return in_folder(self.pairs[index], self.folder)


def in_folder(pair: Pair, folder: Path) -> Stored:
    """A pair of a folder that its paths are relative to."""
    paths = {"input": pair.input, "target": pair.target}
    return Stored(pair, lambda which: folder / paths[which])


def _as_heard(signal: audio.Signal, pair: Pair) -> tuple[audio.Signal, audio.Signal]:
    """What the network is given of an input: gaps are concealed before restoration, and marked."""
    return conceal.concealed(signal) if pair.mode == "restore" else (signal, np.zeros_like(signal[:1]))


def _one_channel(signal: audio.Signal, choice: int) -> audio.Signal:
    """Left, right, mid or side by `choice` 0-3, shape (1, samples); a mono signal as it is."""
    if signal.shape[0] == 1:
        return signal
    left, right = signal[:1], signal[1:2]
    chosen: audio.Signal = (left, right, (left + right) / np.float32(2), (left - right) / np.float32(2))[choice]
    return chosen


def _crop(
    signal: audio.Signal, marks: audio.Signal, target: audio.Signal, cutoff_hz: float, pair: Pair, opened: bool = False
) -> Crop:
    return {
        "input": torch.from_numpy(signal[0]),
        "target": torch.from_numpy(target[0]),
        "concealed": torch.from_numpy(marks[0]),
        "cutoff_hz": torch.tensor(cutoff_hz, dtype=torch.float32),
        "bandwidth_hz": torch.tensor(pair.bandwidth_hz, dtype=torch.float32),
        "restore": torch.tensor(pair.mode == "restore"),
        "opened": torch.tensor(opened),
    }
