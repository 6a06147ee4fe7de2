"""Run a system over evaluation pairs as a user would, and once more with what a user does not know; score every clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from overtone import audio
from overtone.audio import Signal
from overtone.data import parallel
from overtone.data.pairs import Pair
from overtone.errors import OvertoneError
from overtone.evaluation import metrics, perceptual
from overtone.evaluation.statistics import Row
from overtone.settings import EvaluateParams

# What ViSQOL is given of a clip: it computes for a tenth of that time.
VISQOL_SECONDS = 4.0

Scores = dict[str, float]
Progress = Callable[[int, int], None]


class Enhancer(Protocol):
    """What is judged: (channels, samples) in and, at 48 kHz, out.

    A system with an attribute `informed` that is False ignores mode and cutoff. One with a method `decision`, of the same
    arguments, tells by it what `enhance` would do: equal decisions, equal outputs.
    """

    def enhance(self, signal: Signal, rate: int, *, mode: Any = "auto", cutoff_hz: float | None = None) -> Signal: ...


class JudgeError(OvertoneError):
    """Pairs or systems that cannot be judged; the message names the pair or file and what was expected."""


@dataclass(frozen=True)
class Judged:
    """Scores of a system.

    `rows` are blind: the system found mode and cutoff by itself. `oracle` are those of the same pairs with the true ones,
    without the metrics of texture; empty for a system that ignores them, and without clean pairs, of which nothing is to be
    known.
    """

    name: str
    rows: tuple[Row, ...]
    oracle: tuple[Row, ...]


def judge(
    name: str,
    system: Callable[[], Enhancer],
    pairs: Sequence[Pair],
    pairs_folder: Path,
    params: EvaluateParams,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
) -> Judged:
    """Run a system over pairs and score its outputs.

    The same pairs and system give the same scores, whatever the number of processes.

    Args:
        name: what the report calls the system.
        system: makes the system; called once in each process, with one compute thread, so it must be picklable
            (a class, or functools.partial) unless `workers` is 1.
        pairs: what to judge it on, in the order of the rows.
        pairs_folder: what the pairs' paths are relative to.
        params: which conditions ViSQOL judges, whether PESQ and STOI are asked for.
        progress: called with (pairs done, pairs in all).
        workers: processes; None for one a core, or this one alone for little work. 1 stays in this process, as a system
            on a GPU should.

    Raises:
        JudgeError: no pairs, a file that does not fit its pair, an output that does not fit its input.
        overtone.audio.AudioError: a pair's file is missing or damaged.
        overtone.evaluation.perceptual.MissingExtraError: `params.perceptual` without the extra.
    """
    if not pairs:
        raise JudgeError(f"{name}: no pairs to judge it on; expected at least one")
    rated = _rated(pairs, params)
    shared = _Judge(name, system, pairs_folder, params.perceptual)
    tasks = [(pair, pair.pair in rated) for pair in pairs]
    found = parallel.run(_judge, shared, tasks, workers, progress)
    return Judged(
        name,
        tuple(_row(pair, scores) for pair, (scores, _) in zip(pairs, found, strict=True)),
        tuple(_row(pair, scores) for pair, (_, scores) in zip(pairs, found, strict=True) if scores is not None),
    )


def _row(pair: Pair, scores: Scores) -> Row:
    return Row(pair.condition, pair.mode, pair.kind, pair.source, pair.clip, scores)


def _rated(pairs: Sequence[Pair], params: EvaluateParams) -> set[str]:
    """The pairs that ViSQOL judges: the first of each source under its conditions, where it is installed."""
    if params.perceptual:
        perceptual.require()
    if not perceptual.available():
        return set()
    first: dict[tuple[str, str, str], str] = {}
    for pair in pairs:
        if pair.condition in params.visqol:
            first.setdefault((pair.condition, pair.kind, pair.source), pair.pair)
    return set(first.values())


def enhanced(name: str, system: Enhancer, pair: Pair, before: Signal, **known: Any) -> Signal:
    """A system's output for a pair's input, as long as the target.

    Args:
        name: of the system, for errors.
        known: mode and cutoff, where the system is given them.

    Raises:
        JudgeError: the output does not fit the input.
    """
    after = system.enhance(before, pair.input_rate, **known)
    expected = (before.shape[0], audio.resampled_length(before.shape[1], pair.input_rate, pair.rate))
    if after.shape != expected:
        raise JudgeError(f"{name}: pair {pair.pair}: output of shape {after.shape}; expected {expected}")
    return audio.fit_length(np.ascontiguousarray(after, dtype=np.float32), pair.frames)


@dataclass
class _Judge:
    """What each process keeps from pair to pair. The system is made at the first pair, and is not sent along."""

    name: str
    make: Callable[[], Enhancer]
    pairs_folder: Path
    perceptual: bool
    system: Enhancer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"system": None}

    def score(self, pair: Pair, after: Signal, target: Signal, *, texture: bool = True) -> Scores:
        made, wanted = torch.from_numpy(after), torch.from_numpy(target)
        try:
            return metrics.score(made, wanted, pair.rate, pair.cutoff_hz, pair.bandwidth_hz, texture=texture)
        except ValueError as error:
            raise JudgeError(f"{self.name}: pair {pair.pair}: {error}") from None

    def oracle(self, system: Enhancer, pair: Pair, before: Signal, target: Signal, blind: Scores) -> Scores | None:
        """The scores with the true mode and cutoff."""
        if pair.mode == "clean" or not getattr(system, "informed", True):
            return None
        known: dict[str, Any] = {"mode": pair.mode, "cutoff_hz": pair.cutoff_hz}
        decision = getattr(system, "decision", None)
        # Where damage is repaired the two never agree, and finding that out costs time.
        if decision and pair.mode == "extend":
            rate = pair.input_rate
            if decision(before, rate) == decision(before, rate, **known):
                return {name: value for name, value in blind.items() if name not in metrics.TEXTURE}
        after = enhanced(self.name, system, pair, before, **known)
        return self.score(pair, after, target, texture=False)


def _judge(judge: _Judge, task: tuple[Pair, bool]) -> tuple[Scores, Scores | None]:
    """Scores of a pair, blind and with the truth."""
    pair, rated = task
    if judge.system is None:
        judge.system = judge.make()
    before, target = read(judge.pairs_folder, pair)
    after = enhanced(judge.name, judge.system, pair, before)
    scores = judge.score(pair, after, target)
    oracle = judge.oracle(judge.system, pair, before, target, scores)
    speech = judge.perceptual and pair.kind == "speech"
    if rated or speech:
        after = metrics.round_16_bit(torch.from_numpy(after)).numpy()
    if rated:
        part = loudest(target, pair.rate, VISQOL_SECONDS)
        value = perceptual.visqol(after[:, part], target[:, part], pair.rate)
        scores |= {} if value is None else {"visqol": value}
    if speech:
        scores |= perceptual.speech(after, target, pair.rate)
    return scores, oracle


def loudest(target: Signal, rate: int, seconds: float) -> slice:
    """Where a signal (channels, samples) is loudest for so long, or all of it."""
    length = min(target.shape[1], round(seconds * rate))
    starts = range(0, target.shape[1] - length + 1, max(rate // 10, 1))
    total = np.concatenate(([0.0], np.cumsum(np.square(target, dtype=np.float64).sum(axis=0))))
    start = max(starts, key=lambda begin: (total[begin + length] - total[begin], -begin))
    return slice(start, start + length)


def read(folder: Path, pair: Pair) -> tuple[Signal, Signal]:
    """A pair's input, at its own rate, and its target.

    Raises:
        JudgeError: a file is not what the pair says.
    """
    before, input_rate = audio.read(folder / pair.input)
    target, rate = audio.read(folder / pair.target)
    if rate != pair.rate or target.shape != (pair.channels, pair.frames):
        raise JudgeError(
            f"{folder / pair.target}: {target.shape} (channels, samples) at {rate} Hz; "
            f"its pair says {(pair.channels, pair.frames)} at {pair.rate} Hz"
        )
    if input_rate != pair.input_rate or before.shape[0] != pair.channels:
        raise JudgeError(
            f"{folder / pair.input}: {before.shape[0]} channels at {input_rate} Hz; "
            f"its pair says {pair.channels} at {pair.input_rate} Hz"
        )
    return before, target
