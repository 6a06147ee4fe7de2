"""Stage `degrade`: clips of the validation and the test split -> pairs of a degraded input and its target, with recipes.

An input is at the rate at which a user would have it. Training makes its own, from the corpus.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import scipy.signal

from overtone import audio
from overtone.audio import Signal
from overtone.data import degrade, manifest, parallel
from overtone.data.corpus import MANIFEST, Clip, read_manifest, replacing_folder
from overtone.errors import OvertoneError
from overtone.settings import Condition, DegradeParams, Settings, Step

_PEAK = 0.99
_KEPT = 32  # recordings of noise that a process holds in memory


class PairsError(OvertoneError):
    """Pairs that cannot be made or read; the message says why and what was expected."""


@dataclass(frozen=True)
class Pair:
    """One row of the manifest; `input` and `target` are paths relative to the folder of pairs.

    `rate`, `frames` and `channels` are the target's; `cutoff_hz` and `mode` are the truth about the input.
    """

    pair: str
    split: str
    condition: str
    mode: Literal["extend", "restore", "clean"]
    kind: str
    source: str
    clip: str
    input: str
    target: str
    channels: int
    frames: int
    rate: int
    input_rate: int
    cutoff_hz: float
    bandwidth_hz: float
    recipe: str


class Recipe(Settings):
    """All that made a pair out of its clip: `key` seeds what is random, `gain` keeps both signals from clipping."""

    key: str
    steps: tuple[Step, ...] = ()
    gain: float = 1.0


def read_pairs(folder: Path, split: str | None = None) -> list[Pair]:
    """The pairs that `build` wrote, of one split or of all.

    Raises:
        PairsError: no manifest, or one with other columns.
    """
    pairs = manifest.read(folder / MANIFEST, Pair, "degrade", PairsError)
    return [pair for pair in pairs if split in (None, pair.split)]


class Recordings(Sequence[Signal]):
    """Clips read when they are asked for, the last few kept: a large corpus of noise need not fit in memory."""

    def __init__(self, corpus: Path, clips: Sequence[Clip]) -> None:
        self.clips = list(clips)
        self._corpus = corpus
        self._kept: OrderedDict[int, Signal] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": OrderedDict()}

    def __len__(self) -> int:
        return len(self.clips)

    @overload
    def __getitem__(self, index: int) -> Signal: ...

    @overload
    def __getitem__(self, index: slice) -> Recordings: ...

    def __getitem__(self, index: int | slice) -> Signal | Recordings:
        if isinstance(index, slice):
            return Recordings(self._corpus, self.clips[index])
        if index not in self._kept:
            self._kept[index] = audio.read(self._corpus / self.clips[index].path)[0]
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]


# --- building ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """What every process needs; `noises` by split."""

    params: DegradeParams
    seed: int
    out: Path
    corpus: Path
    noises: dict[str, Recordings]


def build(
    params: DegradeParams,
    seed: int,
    corpus: Path,
    out: Path,
    progress: parallel.Progress | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> None:
    """Write the pairs of the validation and the test split to `out`, which is replaced as a whole.

    Args:
        params: the conditions, and how much of each source is judged.
        seed: with the names of clip and condition it decides everything random in a pair.
        corpus: output of stage `corpus`.
        out: gets `manifest.csv` and the folders `valid` and `test` of 16-bit FLAC files.
        progress: called with (clips done, clips).
        workers: processes, None for one a core. The result does not depend on it.
        ray: address of a Ray cluster whose machines share these folders, see `parallel.run`. Nor does it on this.

    Raises:
        CorpusError: no corpus there.
        PairsError: nothing to judge by in it.
    """
    clips = [clip for clip in read_manifest(corpus) if clip.split != "train"]
    wanted = _few([clip for clip in clips if clip.kind != "noise"], params.clips)
    if not wanted:
        raise PairsError(
            f"{corpus / MANIFEST}: no clips of speech, music or other in valid and test; expected some to judge by"
        )
    noises = {
        split: Recordings(corpus, [clip for clip in clips if (clip.kind, clip.split) == ("noise", split)])
        for split in {clip.split for clip in clips}
    }
    with replacing_folder(out) as folder:
        plan = _Plan(params, seed, folder, corpus, noises)
        # Long clips first, so that no process is left alone with one at the end.
        order = sorted(wanted, key=lambda clip: -clip.frames * clip.channels)
        rows = [pair for pairs in parallel.run(_conditions, plan, order, workers, progress, ray) for pair in pairs]
        rows.sort(key=lambda pair: (pair.split, pair.condition, pair.pair))
        manifest.write(folder / MANIFEST, Pair, rows)


def _few(clips: Sequence[Clip], most: int) -> list[Clip]:
    """At most so many clips of each source, spread evenly over it: more of one voice say little more of a system."""
    by_source: dict[tuple[str, str], list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: clip.clip):
        by_source.setdefault((clip.kind, clip.source), []).append(clip)
    few = []
    for group in by_source.values():
        count = min(most, len(group))
        few += [group[(2 * index + 1) * len(group) // (2 * count)] for index in range(count)]
    return few


def _conditions(plan: _Plan, clip: Clip) -> list[Pair]:
    """The middle of a clip under every condition that is for it, all at one gain."""
    signal, _ = audio.read(plan.corpus / clip.path)
    signal = middle(signal, clip.rate, plan.params.seconds)
    made: dict[str, _Received] = {}
    for name, condition in plan.params.conditions.items():
        if (condition.kinds and clip.kind not in condition.kinds) or (condition.channels or 1) > clip.channels:
            continue
        key = f"{plan.seed}:{clip.clip}:{name}"
        target = original(signal, clip.rate, condition)
        damaged, rate, cutoff = degrade.received(
            condition.steps, target, clip.rate, degrade.generator(key, "steps"), plan.noises[clip.split]
        )
        made[name] = _Received(key, target, damaged, rate, cutoff)
    gain = _headroom([signal, *(one for all in made.values() for one in (all.target, all.input))])
    rows = []
    for name, one in made.items():
        condition = plan.params.conditions[name]
        variant = f"{'.mono' if len(one.target) < clip.channels else ''}{'.high' if condition.highpass_hz else ''}"
        wanted = f"{clip.split}/target/{clip.clip}{variant}.flac"
        path = f"{clip.split}/{name}/{clip.clip}.flac"
        for place, made_signal, rate in ((wanted, one.target, clip.rate), (path, one.input, one.rate)):
            if not (plan.out / place).exists():
                audio.write(plan.out / place, made_signal * np.float32(gain), rate, "PCM_16")
        recipe = Recipe(key=one.key, steps=condition.steps, gain=gain)
        rows.append(
            Pair(
                pair=f"{clip.clip}.{name}",
                split=clip.split,
                condition=name,
                mode=condition.mode,
                kind=clip.kind,
                source=clip.source,
                clip=clip.clip,
                input=path,
                target=wanted,
                channels=len(one.target),
                frames=one.target.shape[1],
                rate=clip.rate,
                input_rate=one.rate,
                cutoff_hz=round(one.cutoff, 1),
                bandwidth_hz=round(clip.bandwidth_hz, 1),
                recipe=recipe.model_dump_json(),
            )
        )
    return rows


@dataclass(frozen=True)
class _Received:
    """What became of a clip under a condition: its target, the input, that one's rate (Hz) and cutoff (Hz)."""

    key: str
    target: Signal
    input: Signal
    rate: int
    cutoff: float


def middle(signal: Signal, rate: int, seconds: float) -> Signal:
    """The middle of a signal (channels, samples), at most so long."""
    length = min(signal.shape[1], round(seconds * rate))
    start = (signal.shape[1] - length) // 2
    return np.ascontiguousarray(signal[:, start : start + length])


def original(signal: Signal, rate: int, condition: Condition) -> Signal:
    """What a condition damages, and what it is judged against: a clip, perhaps mixed down, perhaps without its rumble.

    Shape:
        (channels, samples) in, as many or one channel out.
    """
    if condition.channels == 1:
        signal = signal.mean(axis=0, keepdims=True, dtype=np.float32)
    if condition.highpass_hz:
        sections = scipy.signal.butter(4, condition.highpass_hz, "high", fs=rate, output="sos")
        signal = np.asarray(scipy.signal.sosfilt(sections, signal), dtype=np.float32)
    return signal


def _headroom(signals: Sequence[Signal]) -> float:
    """The gain at which none of the signals exceeds `_PEAK`, at most 1."""
    peak = max(float(np.abs(signal).max(initial=0.0)) for signal in signals)
    return _PEAK / peak if peak > _PEAK else 1.0
