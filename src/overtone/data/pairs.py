"""Stage `degrade`: clips of the corpus -> pairs of a degraded input and its target, and the recipe of each.

The input of an evaluation pair is at the rate at which a user would have it, that of a training view at its target's.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import scipy.signal

from overtone import audio
from overtone.audio import Signal
from overtone.data import degrade, manifest, parallel, targets
from overtone.data.corpus import MANIFEST, Clip, read_manifest, replacing_folder
from overtone.errors import OvertoneError
from overtone.params import Condition, DegradeParams, Settings, Step

# Folder within the pairs of the training split's recorded noise, laid out as a corpus: damage is drawn afresh from it.
NOISE = "noise"
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
    """All that made a pair out of its clip: `replay` makes it again.

    `key` seeds the random parts, `target` is what the view did to its own target (None: nothing), `gain` what both
    signals were multiplied with in the end so that neither clips.
    """

    key: str
    target: targets.TargetRecipe | None = None
    steps: tuple[Step, ...] = ()
    gain: float = 1.0


def read_pairs(folder: Path, split: str | None = None) -> list[Pair]:
    """The pairs that `build` wrote, of one split or of all.

    Raises:
        PairsError: no manifest, or one with other columns.
    """
    pairs = manifest.read(folder / MANIFEST, Pair, "degrade", PairsError)
    return [pair for pair in pairs if split in (None, pair.split)]


def read_input(source: audio.Source, pair: Pair, start: int = 0, frames: int = -1) -> Signal:
    """A pair's input, or the part of it that belongs to a part of the target, at the target's rate.

    Args:
        source: the input's file.
        start, frames: of the target's samples.

    Shape:
        (channels, frames).
    """
    if pair.input_rate == pair.rate:
        return audio.read(source, start, frames)[0]
    wanted = pair.frames - start if frames < 0 else frames
    ratio = pair.input_rate / pair.rate
    signal, _ = audio.read(source, round(start * ratio), round(wanted * ratio) + 1)
    return audio.fit_length(audio.resample(signal, pair.input_rate, pair.rate), wanted)


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

    def named(self, name: str) -> Signal:
        """The recording of the clip of that name.

        Raises:
            PairsError: there is none.
        """
        for index, clip in enumerate(self.clips):
            if clip.clip == name:
                return self[index]
        raise PairsError(f"{self._corpus}: no clip {name!r}; the recipe belongs to another corpus")


def replay(
    recipe: Recipe, signal: Signal, rate: int, noises: Sequence[Signal], musics: Recordings | None = None
) -> tuple[Signal, Signal, float]:
    """Make a pair: (input, target, cutoff in Hz).

    Args:
        recipe: what to do.
        signal: the clip.
        rate: Hz.
        noises: recorded noise of the clip's split, in the corpus's order.
        musics: music of the clip's split, needed if the recipe mixes some in.

    Shape:
        signal: (channels, samples) -> twice (channels, samples'), of equal length.
    """
    target = signal
    if recipe.target is not None:
        name = recipe.target.mix_clip
        music = musics.named(name) if name and musics is not None else None
        target = targets.make(recipe.target, signal, rate, degrade.generator(recipe.key, "target"), music)
    damaged, cutoff = degrade.apply_and_measure(
        recipe.steps, target, rate, degrade.generator(recipe.key, "steps"), noises
    )
    gain = np.float32(recipe.gain)
    return damaged * gain, target * gain, cutoff


# --- building ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """What every process needs; `noises` and `musics` by split."""

    params: DegradeParams
    seed: int
    out: Path
    corpus: Path
    noises: dict[str, Recordings]
    musics: dict[str, Recordings]


def build(
    params: DegradeParams,
    seed: int,
    corpus: Path,
    out: Path,
    progress: parallel.Progress | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> None:
    """Write the pairs of all clips but noise to `out`, which is replaced as a whole.

    Args:
        params: views, ranges, conditions, and how much of each source is judged.
        seed: with the clip's name and the view's number it decides everything random in a pair.
        corpus: output of stage `corpus`.
        out: gets `manifest.csv`, the folders `train`, `valid`, `test` of 16-bit FLAC files, and in `noise` the
            recorded noise that training may use.
        progress: called with (clips done, clips).
        workers: processes, None for one a core. The result does not depend on it.
        ray: address of a Ray cluster whose machines share these folders, see `parallel.run`. Nor does it on this.

    Raises:
        CorpusError: no corpus there.
        PairsError: a corpus of nothing but noise.
    """
    clips = read_manifest(corpus)
    wanted = [clip for clip in clips if clip.kind != "noise"]
    if not wanted:
        raise PairsError(f"{corpus / MANIFEST}: no clips of speech, music or other; expected some to make pairs of")
    by_split = {clip.split: [other for other in clips if other.split == clip.split] for clip in clips}
    by_split.setdefault("train", [])
    noises = {s: Recordings(corpus, [c for c in group if c.kind == "noise"]) for s, group in by_split.items()}
    musics = {s: Recordings(corpus, [c for c in group if c.kind == "music"]) for s, group in by_split.items()}
    with replacing_folder(out) as folder:
        plan = _Plan(params, seed, folder, corpus, noises, musics)
        judged = _few([clip for clip in wanted if clip.split != "train"], params.clips)
        wanted = [clip for clip in wanted if clip.split == "train"] + judged
        # Long clips first, so that no process is left alone with one at the end.
        order = sorted(wanted, key=lambda clip: -clip.frames * clip.channels)
        rows = [pair for pairs in parallel.run(_degrade, plan, order, workers, progress, ray) for pair in pairs]
        rows.sort(key=lambda pair: (pair.split, pair.condition, pair.pair))
        manifest.write(folder / MANIFEST, Pair, rows)
        _keep_noise(noises["train"], corpus, folder / NOISE)


def _keep_noise(noises: Recordings, corpus: Path, out: Path) -> None:
    out.mkdir()
    for clip in noises.clips:
        (out / clip.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(corpus / clip.path, out / clip.path)
    manifest.write(out / MANIFEST, Clip, noises.clips)


def training_noise(folder: Path) -> Recordings:
    """The recorded noise of the training split, kept beside the pairs.

    Raises:
        PairsError: none was kept: the folder is not of stage `degrade`.
    """
    return Recordings(folder / NOISE, manifest.read(folder / NOISE / MANIFEST, Clip, "degrade", PairsError))


def _degrade(plan: _Plan, clip: Clip) -> list[Pair]:
    """All pairs of one clip."""
    signal, _ = audio.read(plan.corpus / clip.path)
    if clip.split == "train":
        return [_view(plan, clip, signal, view) for view in range(plan.params.views)]
    return _conditions(plan, clip, signal)


def _view(plan: _Plan, clip: Clip, signal: Signal, view: int) -> Pair:
    """One random view of a training clip."""
    params, key = plan.params, f"{plan.seed}:{clip.clip}:{view}"
    rng = degrade.generator(key, "draw")
    musics = plan.musics[clip.split]
    changes = targets.draw(params.target, clip.kind, [music.clip for music in musics.clips], rng)
    mode = _mode(plan, clip, view)
    steps: tuple[Step, ...] = (
        (degrade.draw_narrowband(params.narrowband, rng),)
        if mode == "extend"
        else degrade.draw_damage(params.damage, params.narrowband, rng)
    )
    recipe = Recipe(key=key, target=changes, steps=steps)
    damaged, target, cutoff = replay(recipe, signal, clip.rate, plan.noises[clip.split], musics)
    gain = _headroom([damaged, target])
    recipe = recipe.model_copy(update={"gain": gain})
    name = f"{clip.clip}.{view}"
    paths = f"train/{name}.input.flac", f"train/{name}.target.flac"
    for path, made in zip(paths, (damaged, target), strict=True):
        audio.write(plan.out / path, made * np.float32(gain), clip.rate, "PCM_16")
    widths = [clip.bandwidth_hz] + [music.bandwidth_hz for music in musics.clips if music.clip == changes.mix_clip]
    bandwidth = min(clip.rate / 2.0, widths[0] * changes.speed, *widths[1:])
    return _row(clip, name, "train", mode, paths, target.shape[1], cutoff, bandwidth, recipe)


def _mode(plan: _Plan, clip: Clip, view: int) -> Literal["extend", "restore"]:
    """Spread so that of a clip's views the asked share is merely band-limited, to the nearest whole number at random."""
    params = plan.params
    phase = degrade.generator(plan.seed, clip.clip, "mode").random()
    reached = np.floor((view + 1) * params.extend_share + phase) > np.floor(view * params.extend_share + phase)
    return "extend" if reached else "restore"


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


def _conditions(plan: _Plan, clip: Clip, signal: Signal) -> list[Pair]:
    """The middle of a clip under every evaluation condition that is for it, all at one gain."""
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
        row = _row(
            clip, f"{clip.clip}.{name}", name, condition.mode, (path, wanted), signal.shape[1], one.cutoff, clip.bandwidth_hz,
            recipe,
        )  # fmt: skip
        rows.append(replace(row, channels=len(one.target), input_rate=one.rate))
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


def _row(
    clip: Clip,
    name: str,
    condition: str,
    mode: Literal["extend", "restore", "clean"],
    paths: tuple[str, str],
    frames: int,
    cutoff: float,
    bandwidth: float,
    recipe: Recipe,
) -> Pair:
    return Pair(
        pair=name,
        split=clip.split,
        condition=condition,
        mode=mode,
        kind=clip.kind,
        source=clip.source,
        clip=clip.clip,
        input=paths[0],
        target=paths[1],
        channels=clip.channels,
        frames=frames,
        rate=clip.rate,
        input_rate=clip.rate,
        cutoff_hz=round(cutoff, 1),
        bandwidth_hz=round(bandwidth, 1),
        recipe=recipe.model_dump_json(exclude_defaults=False),
    )
