"""Two recordings or two models beside each other: metrics, and spectrograms to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from overtone import audio
from overtone.audio import AudioError, Signal
from overtone.dsp.bandwidth import estimate_bandwidth
from overtone.enhance.upsampler import Upsampler
from overtone.errors import OvertoneError
from overtone.evaluation import figures, metrics
from overtone.evaluation.alignment import lag

# Longer recordings are compared by their beginning.
MAX_SECONDS = 600.0
PICTURE_SECONDS = 20.0
MODEL_METRICS = ("lsd", "lsd_hf", "lsd_lf", "si_sdr", "snr")

Rows = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Compared:
    """What came of a comparison: metrics by row, remarks, and what is drawn."""

    rows: Rows
    remarks: tuple[str, ...]
    panels: Mapping[str, Signal]
    rate: int

    def draw(self, path: Path, title: str) -> None:
        """Spectrograms side by side, as a PNG."""
        frames = round(PICTURE_SECONDS * self.rate)
        panels = {name: signal[:, :frames] for name, signal in self.panels.items()}
        figures.draw(path, panels, self.rate, title=title, cutoff_hz=self.rate / 2)


def files(first: Path, second: Path, reference: Path | None = None) -> Compared:
    """Two recordings against a third, or without one the second against the first.

    They are brought to one rate, length and beginning. Rows hold `lsd`, `si_sdr`, `snr` (dB), `level_db` (against the
    reference) and `bandwidth_hz`.

    Raises:
        AudioError: a file is not usable audio, or their channels differ in number.
    """
    paths = list(dict.fromkeys((first, second, *([reference] if reference else []))))
    if len(paths) < 2 + (reference is not None):
        raise AudioError(f"{second}: expected different files to compare")
    read = {path: _beginning(path) for path in paths}
    rate = max(rate for _, rate in read.values())
    signals = {path: audio.resample(signal, own, rate) for path, (signal, own) in read.items()}
    target = reference or first
    remarks = []
    for path, signal in signals.items():
        if len(signal) != len(signals[target]):
            raise AudioError(f"{path}: has {len(signal)} channels, {target} {len(signals[target])}; expected as many")
        if path != target and (late := lag(signal, signals[target], rate)):
            remarks.append(f"{path} is {1000 * late / rate:+.2f} ms late; compared without that")
            signals[path] = signal[:, late:] if late > 0 else np.pad(signal, ((0, 0), (-late, 0)))
    lengths = {path: signal.shape[1] for path, signal in signals.items()}
    length = min(lengths.values())
    if max(lengths.values()) > 1.01 * length:
        remarks.append(f"compared are the first {length / rate:.1f} s, which all have")
    bandwidths = {path: estimate_bandwidth(signal, rate) for path, signal in signals.items()}
    cut = {path: signal[:, :length] for path, signal in signals.items()}
    rows: Rows = {str(target): {"bandwidth_hz": bandwidths[target]}}
    for path, signal in cut.items():
        if path != target:
            rows[str(path)] = _distance(signal, cut[target], rate, bandwidths[target]) | {
                "bandwidth_hz": bandwidths[path]
            }
    return Compared(rows, tuple(remarks), {path.name: signal for path, signal in signals.items()}, rate)


@dataclass(frozen=True)
class Task:
    """An input for two models: what it is called, and what they should make of it."""

    name: str
    input: Signal
    rate: int
    target: Signal
    mode: str
    cutoff_hz: float
    bandwidth_hz: float


def models(systems: Mapping[str, Upsampler], tasks: Sequence[Task], progress: Callable[[int, int], None]) -> Compared:
    """Two models, by what they are called, on the same inputs: means of metrics by name of task and system.

    Raises:
        OvertoneError: the two are one, or there is nothing to compare them on.
    """
    if len(systems) < 2:
        raise OvertoneError(f"{next(iter(systems))}: expected two different models")
    if not tasks:
        raise OvertoneError(
            "no audio to compare the models on; name files with --on, or make work/pairs (dvc repro degrade)"
        )
    scores: dict[tuple[str, str], list[dict[str, float]]] = {}
    panels: dict[str, Signal] = {}
    for index, task in enumerate(tasks):
        rate = next(iter(systems.values())).rate
        made = {"input": audio.fit_length(audio.resample(task.input, task.rate, rate), task.target.shape[1])}
        for name, system in systems.items():
            mode = "restore" if task.mode == "restore" else "extend"
            out = system.enhance(task.input, task.rate, mode=mode, cutoff_hz=task.cutoff_hz)  # type: ignore[arg-type]
            made[name] = audio.fit_length(out, task.target.shape[1])
        for name, signal in made.items():
            found = metrics.score(
                torch.from_numpy(signal), torch.from_numpy(task.target), rate, task.cutoff_hz, task.bandwidth_hz
            )
            for group in (task.name, "all"):
                scores.setdefault((group, name), []).append(found)
        if not panels:
            panels = {**made, "target": task.target}
        progress(index + 1, len(tasks))
    names = [*dict.fromkeys(task.name for task in tasks)]
    groups = [*names, "all"] if len(names) > 1 else names
    rows = {f"{group}: {name}": _mean(scores[group, name]) for group in groups for name in ("input", *systems)}
    return Compared(rows, (), panels, 48_000)


def narrowed(paths: Iterable[Path], cutoff_hz: float) -> list[Task]:
    """Full-band recordings as tasks: each without what lies above the cutoff, to be brought back.

    Raises:
        AudioError: a file is not usable audio, or has nothing above the cutoff.
    """
    tasks = []
    for path in paths:
        signal, own = _beginning(path, PICTURE_SECONDS)
        target, rate = audio.resample(signal, own, 48_000), round(2 * cutoff_hz)
        bandwidth = estimate_bandwidth(target, 48_000)
        if bandwidth <= 1.05 * cutoff_hz:
            raise AudioError(
                f"{path}: has nothing above {bandwidth:.0f} Hz; expected more than the cutoff {cutoff_hz:g} Hz"
            )
        tasks.append(
            Task(path.name, audio.resample(target, 48_000, rate), rate, target, "extend", cutoff_hz, bandwidth)
        )
    return tasks


def pairs(folder: Path, clips: int) -> list[Task]:
    """The first clips of each condition of the validation split, as tasks: comparing models is choosing.

    Raises:
        OvertoneError: there are no pairs.
    """
    from overtone.data.pairs import read_pairs

    tasks, counts = [], dict[str, int]()
    for pair in read_pairs(folder, "valid"):
        counts[pair.condition] = counts.get(pair.condition, 0) + 1
        if counts[pair.condition] <= clips:
            (signal, rate), (target, _) = audio.read(folder / pair.input), audio.read(folder / pair.target)
            tasks.append(Task(pair.condition, signal, rate, target, pair.mode, pair.cutoff_hz, pair.bandwidth_hz))
    return tasks


def draw(paths: Sequence[Path], picture: Path) -> None:
    """Spectrograms of files side by side, as a PNG; the frequency above which a single one holds nothing is marked.

    Raises:
        AudioError: a file is not usable audio.
    """
    read = [_beginning(path, PICTURE_SECONDS) for path in paths]
    rate = max(own for _, own in read)
    panels = {
        f"{path.name}{' ' * index}": audio.resample(signal, own, rate)
        for index, (path, (signal, own)) in enumerate(zip(paths, read, strict=True))
    }
    top = estimate_bandwidth(*read[0]) if len(read) == 1 else rate / 2
    figures.draw(picture, panels, rate, title="", cutoff_hz=top or rate / 2)


def _beginning(path: Path, seconds: float = MAX_SECONDS) -> tuple[Signal, int]:
    signal, rate = audio.read(path, 0, round(seconds * audio.probe(path).rate))
    if not signal.size:
        raise AudioError(f"{path}: holds no samples; expected audio")
    if not np.isfinite(signal).all():
        raise AudioError(f"{path}: holds NaN or infinite samples; expected finite audio")
    return signal, rate


def _distance(signal: Signal, target: Signal, rate: int, bandwidth: float) -> dict[str, float | None]:
    prediction, wanted = torch.from_numpy(signal.copy()), torch.from_numpy(target.copy())
    powers = [float(np.mean(part.astype(np.float64) ** 2)) for part in (signal, target)]
    return {
        "lsd": metrics.log_spectral_distance(prediction, wanted, rate, bandwidth or None),
        "si_sdr": metrics.si_sdr(prediction, wanted),
        "snr": metrics.snr(prediction, wanted),
        "level_db": 10.0 * float(np.log10(powers[0] / powers[1])) if all(powers) else None,
    }


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    found = {name: [row[name] for row in scores if name in row] for name in MODEL_METRICS}
    return {name: fmean(values) if values else None for name, values in found.items()}
