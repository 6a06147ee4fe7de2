"""Run a system over evaluation pairs as a user would, and once more knowing what a user does not; score every clip."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
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
from overtone.evaluation import metrics
from overtone.settings import EvaluateParams

# What ViSQOL hears of a clip: it takes a second for four.
VISQOL_SECONDS = 4.0

Scores = dict[str, float]
Progress = Callable[[int, int], None]


class Enhancer(Protocol):
    """What is judged: (channels, samples) in and, at 48 kHz, out.

    A system with an attribute `informed` that is False makes nothing of mode and cutoff.
    """

    def enhance(self, signal: Signal, rate: int, *, mode: Any = "auto", cutoff_hz: float | None = None) -> Signal: ...


class JudgeError(OvertoneError):
    """Pairs or systems that cannot be judged; the message names the pair or file and what was expected."""


@dataclass(frozen=True)
class Row:
    """The metrics of one pair; a metric that is not defined for it is absent."""

    pair: Pair
    scores: Scores

    @property
    def condition(self) -> str:
        return self.pair.condition

    @property
    def mode(self) -> str:
        return self.pair.mode

    @property
    def kind(self) -> str:
        return self.pair.kind

    @property
    def source(self) -> str:
        return self.pair.source

    @property
    def clip(self) -> str:
        return self.pair.clip


@dataclass(frozen=True)
class Example:
    """A pair to look at and to listen to: spectrogram figure, and FLACs of input, output and target."""

    pair: Pair
    figure: Path
    before: Path
    after: Path
    reference: Path


@dataclass(frozen=True)
class Judged:
    """What a system was found to do.

    `rows` are blind: the system found mode and cutoff by itself. `oracle` are those of the same pairs with the true ones,
    empty for a system that makes nothing of them.
    """

    name: str
    rows: tuple[Row, ...]
    oracle: tuple[Row, ...]
    examples: tuple[Example, ...] = ()


def judge(
    name: str,
    system: Callable[[], Enhancer],
    pairs: Sequence[Pair],
    pairs_folder: Path,
    params: EvaluateParams,
    out: Path | None = None,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
) -> Judged:
    """Run a system over pairs and score what it makes.

    The same pairs and system give the same scores, whatever the number of processes.

    Args:
        name: what the report calls the system.
        system: makes the system; called once in each process, with one compute thread, so it must be picklable
            (a class, or functools.partial) unless `workers` is 1.
        pairs: what to judge it on, in the order of the rows.
        pairs_folder: what the pairs' paths are relative to.
        params: which conditions ViSQOL judges, whether PESQ and STOI are asked for, how many examples are kept.
        out: folder whose `figures` and `audio` are replaced by the examples; None keeps none.
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
    examples: dict[str, Example] = {}
    if out is not None:
        for part in ("figures", "audio"):
            shutil.rmtree(out / part, ignore_errors=True)
        examples = {pair.pair: _example(pair, out) for pair in spread(pairs, params.figures)}
    rated = _rated(pairs, params)
    tasks = [_Task(pair, examples.get(pair.pair), pair.pair in rated) for pair in pairs]
    shared = _Judge(name, system, pairs_folder, params.perceptual)
    found = parallel.run(_judge, shared, tasks, workers, progress)
    blind = tuple(Row(pair, scores) for pair, (scores, _) in zip(pairs, found, strict=True))
    oracle = tuple(Row(pair, scores) for pair, (_, scores) in zip(pairs, found, strict=True) if scores is not None)
    return Judged(name, blind, oracle, tuple(examples.values()))


def _rated(pairs: Sequence[Pair], params: EvaluateParams) -> set[str]:
    """The pairs that ViSQOL judges: the first of each source under its conditions, where it is installed."""
    from overtone.evaluation import perceptual

    if params.perceptual:
        perceptual.require()
    if not perceptual.available():
        return set()
    first: dict[tuple[str, str, str], str] = {}
    for pair in pairs:
        if pair.condition in params.visqol:
            first.setdefault((pair.condition, pair.kind, pair.source), pair.pair)
    return set(first.values())


@dataclass(frozen=True)
class _Task:
    pair: Pair
    example: Example | None
    rated: bool


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

    def enhance(self, pair: Pair, before: Signal, *, oracle: bool = False) -> Signal | None:
        """What the system makes of an input; None where the oracle would change nothing."""
        if self.system is None:
            self.system = self.make()
        if oracle and not getattr(self.system, "informed", True):
            return None
        mode = "restore" if pair.mode == "restore" else "extend"
        known: dict[str, Any] = {"mode": mode, "cutoff_hz": pair.cutoff_hz} if oracle else {}
        after = self.system.enhance(before, pair.input_rate, **known)
        expected = (before.shape[0], audio.resampled_length(before.shape[1], pair.input_rate, pair.rate))
        if after.shape != expected:
            raise JudgeError(f"{self.name}: pair {pair.pair}: output of shape {after.shape}; expected {expected}")
        return audio.fit_length(after, pair.frames)

    def score(self, pair: Pair, after: Signal, reference: Signal) -> Scores:
        prediction = torch.from_numpy(np.ascontiguousarray(after, dtype=np.float32))
        try:
            return metrics.score(prediction, torch.from_numpy(reference), pair.rate, pair.cutoff_hz, pair.bandwidth_hz)
        except ValueError as error:
            raise JudgeError(f"{self.name}: pair {pair.pair}: {error}") from None

    def rate(self, task: _Task, after: Signal, reference: Signal) -> Scores:
        """Perceptual metrics, where they are asked for."""
        pair, found = task.pair, Scores()
        if not (task.rated or (self.perceptual and pair.kind == "speech")):
            return found
        from overtone.evaluation import perceptual

        after = metrics.round_16_bit(torch.from_numpy(np.ascontiguousarray(after, dtype=np.float32))).numpy()
        if task.rated:
            part = loudest(reference, pair.rate, VISQOL_SECONDS)
            value = perceptual.visqol(after[:, part], reference[:, part], pair.rate)
            found |= {} if value is None else {"visqol": value}
        if self.perceptual and pair.kind == "speech":
            found |= perceptual.speech(after, reference, pair.rate)
        return found


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


def _judge(judge: _Judge, task: _Task) -> tuple[Scores, Scores | None]:
    pair, example = task.pair, task.example
    before, reference = read(judge.pairs_folder, pair)
    after = judge.enhance(pair, before)
    assert after is not None
    scores = judge.score(pair, after, reference)
    scores |= judge.rate(task, after, reference)
    informed = judge.enhance(pair, before, oracle=True)
    if example is not None:
        # Drawing loads matplotlib, which most processes never need.
        from overtone.evaluation import figures

        audio.write(example.before, before, pair.input_rate)
        for path, signal in ((example.after, after), (example.reference, reference)):
            audio.write(path, signal, pair.rate)
        shown = audio.fit_length(audio.resample(before, pair.input_rate, pair.rate), pair.frames)
        panels = {"input": shown, f"output of {judge.name}, LSD {scores['lsd']:.2f}": after, "target": reference}
        title = f"{pair.condition} · {pair.kind} · {pair.clip}"
        figures.draw(example.figure, panels, pair.rate, title=title, cutoff_hz=pair.cutoff_hz)
    return scores, None if informed is None else judge.score(pair, informed, reference)


def _example(pair: Pair, out: Path) -> Example:
    stem = f"{pair.condition}-{pair.clip}"
    before, after, reference = (out / "audio" / f"{stem}-{part}.flac" for part in ("before", "after", "reference"))
    return Example(pair, out / "figures" / f"{stem}.png", before, after, reference)


def spread(pairs: Iterable[Pair], count: int) -> list[Pair]:
    """`count` pairs (or all, if fewer) spread over the conditions, the kinds taking turns; a matter of the pairs alone."""
    pairs = list(pairs)
    conditions = list(dict.fromkeys(pair.condition for pair in pairs))
    kinds = sorted({pair.kind for pair in pairs})
    chosen: dict[str, Pair] = {}
    for index in range(min(count, len(pairs))):
        condition, kind = conditions[index * len(conditions) // count], kinds[index % len(kinds)]
        left = [pair for pair in pairs if pair.pair not in chosen]
        here = [pair for pair in left if pair.condition == condition] or left
        alike = [pair for pair in here if pair.kind == kind] or here
        pick = alike[(2 * index + 1) * len(alike) // (2 * count)]
        chosen[pick.pair] = pick
    return list(chosen.values())
