"""The clips to listen to: the worst and the best of each network under each condition, as excerpts with spectrograms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from overtone import audio
from overtone.audio import Signal
from overtone.data.pairs import Pair
from overtone.overview import media
from overtone.overview.systems import OverviewError, System

SECONDS = 3.0
# What clips are ranked by.
METRIC = "lsd"

Progress = Callable[[int, int], None]


class Enhancer(Protocol):
    """(channels, samples) in and, at 48 kHz, out."""

    def enhance(self, signal: Signal, rate: int, *, mode: Any = "auto", cutoff_hz: float | None = None) -> Signal: ...


@dataclass(frozen=True)
class Choice:
    """The worst and the best clip of a system under a condition, as (condition, clip)."""

    worst: tuple[str, str]
    best: tuple[str, str]


def extremes(system: System) -> dict[str, Choice]:
    """The choice for each condition, in the report's order; of equals the first by name."""
    found = {}
    for condition in dict.fromkeys(one.condition for one in system.clips):
        ranked = sorted(
            (one.scores[METRIC], one.clip)
            for one in system.clips
            if one.condition == condition and METRIC in one.scores
        )
        if ranked:
            worst = min(clip for score, clip in ranked if score == ranked[-1][0])
            found[condition] = Choice((condition, worst), (condition, ranked[0][1]))
    return found


def excerpt(target: Signal, rate: int) -> slice:
    """Where the target is loudest for `SECONDS`: what is worth hearing."""
    length = min(target.shape[1], round(SECONDS * rate))
    hop = max(rate // 10, 1)
    starts = range(0, target.shape[1] - length + 1, hop)
    total = np.concatenate(([0.0], np.cumsum(np.square(target, dtype=np.float64).sum(axis=0))))
    start = max(starts, key=lambda begin: (total[begin + length] - total[begin], -begin))
    return slice(start, start + length)


def heard(
    wanted: Iterable[tuple[str, str]],
    pairs: Sequence[Pair],
    folder: Path,
    systems: Mapping[str, Callable[[], Enhancer]],
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """The chosen clips with their sounds and pictures, as the page's script takes them.

    Each whole clip is enhanced afresh as the evaluation did it, on one thread, and then cut.

    Args:
        wanted: (condition, clip) of each.
        pairs: the test pairs, among which they are.
        folder: what the pairs' paths are relative to.
        systems: name -> makes the system that is heard.
        progress: called with (clips done, clips in all).

    Returns:
        "condition/clip" -> title, seconds, kHz that the pictures reach, cutoff in kHz, and the sounds in order.

    Raises:
        OverviewError: the pairs have no such clip: reports and pairs are not of one run of the line.
    """
    known = {(pair.condition, pair.clip): pair for pair in pairs}
    chosen = list(dict.fromkeys(wanted))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = {name: make() for name, make in systems.items()}
        found = {}
        for done, key in enumerate(chosen, 1):
            if key not in known:
                raise OverviewError(f"{folder}: no test pair of clip {key[1]} under {key[0]}; expected one (dvc repro)")
            found["/".join(key)] = _clip(known[key], folder, made)
            if progress:
                progress(done, len(chosen))
        return found
    finally:
        torch.set_num_threads(threads)


def _clip(pair: Pair, folder: Path, systems: Mapping[str, Enhancer]) -> dict[str, Any]:
    before, target = (audio.read(folder / relative)[0] for relative in (pair.input, pair.target))
    part = excerpt(target, pair.rate)
    sounds = [
        {"name": name, "audio": media.sound(cut, pair.rate), "picture": media.picture(cut)}
        for name, cut in _signals(pair, before, target, systems, part)
    ]
    return {
        "clip": pair.clip,
        "condition": pair.condition,
        "kind": pair.kind,
        "mode": pair.mode,
        "start": round(part.start / pair.rate, 2),
        "seconds": round((part.stop - part.start) / pair.rate, 3),
        "top_khz": pair.rate / 2000,
        "cutoff_khz": round(pair.cutoff_hz / 1000, 2) if pair.cutoff_hz < 0.99 * pair.rate / 2 else None,
        "sounds": sounds,
    }


def _signals(
    pair: Pair, before: Signal, target: Signal, systems: Mapping[str, Enhancer], part: slice
) -> Iterator[tuple[str, Signal]]:
    yield "before", before[:, part]
    for name, system in systems.items():
        after = system.enhance(before, pair.rate, mode=pair.mode, cutoff_hz=pair.cutoff_hz)
        yield name, np.ascontiguousarray(after[:, part], dtype=np.float32)
    yield "target", target[:, part]
