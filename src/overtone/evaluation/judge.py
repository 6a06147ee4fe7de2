"""Judge a system on test pairs, and write its report: metrics, scores by clip, figures, audio to listen to."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import numpy as np
import torch

from overtone import audio, metrics
from overtone.audio import Signal
from overtone.data import parallel
from overtone.data.pairs import Pair
from overtone.errors import OvertoneError
from overtone.params import EvaluateParams

__all__ = ["Enhancer", "Example", "Report", "ReportError", "Row", "evaluate", "fingerprint", "summarise"]

MAIN_METRICS = ("lsd", "lsd_hf", "lsd_lf", "si_sdr", "snr")
# What summary.json holds, of all kinds together: few enough figures for the columns of `dvc exp show`.
SUMMARY = {"extend": ("lsd", "lsd_hf"), "restore": ("lsd", "si_sdr"), "overall": ("lsd",)}
_DECIMALS = 6

Scores = dict[str, float]
Tree = dict[str, Any]
Progress = Callable[[int, int], None]


class Enhancer(Protocol):
    """What is judged: any object with this method; (channels, samples) in and, at 48 kHz, out."""

    def enhance(self, signal: Signal, rate: int, *, mode: Any = "auto", cutoff_hz: float | None = None) -> Signal: ...


class ReportError(OvertoneError):
    """Pairs or systems that cannot be judged; the message names the pair or file and what was expected."""


@dataclass(frozen=True)
class Row:
    """The metrics of one pair; a metric that is not defined for it is absent."""

    pair: Pair
    scores: Scores


@dataclass(frozen=True)
class Example:
    """A pair to look at and to listen to: spectrogram figure, and FLACs of input, output and target."""

    pair: Pair
    figure: Path
    before: Path
    after: Path
    reference: Path


@dataclass(frozen=True)
class Report:
    """A system's report as it was written.

    `metrics` is {group: {kind: {metric: mean}}} and `test_set`; groups are the conditions and the macro means `extend`,
    `restore` and `overall`, kinds are those of the clips and `all`.
    """

    name: str
    metrics: Tree
    rows: tuple[Row, ...]
    examples: tuple[Example, ...]


def evaluate(
    name: str,
    system: Callable[[], Enhancer],
    pairs: Sequence[Pair],
    pairs_folder: Path,
    out: Path,
    params: EvaluateParams,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
) -> Report:
    """Run a system over pairs, score it and write its report.

    `out` gets metrics.json and its digest summary.json, scores.csv, conditions.csv, figures/ and audio/.

    The same pairs and system give the same bytes, whatever the number of processes. `out/figures` and `out/audio` are
    emptied first.

    Args:
        name: what the report calls the system.
        system: makes the system; called once in each process, with one compute thread, so it must be picklable
            (a class, or functools.partial) unless `workers` is 1.
        pairs: what to judge it on, in the order of the rows.
        pairs_folder: what the pairs' paths are relative to.
        out: the report's folder.
        params: `figures` examples, spread over the conditions; `perceptual` adds the metrics of the extra.
        progress: called with (pairs done, pairs in all).
        workers: processes; None for one a core, or this one alone for little work. 1 stays in this process, as a system
            on a GPU should.

    Raises:
        ReportError: no pairs, a file that does not fit its pair, an output that does not fit its input.
        overtone.audio.AudioError: a pair's file is missing or damaged.
        overtone.perceptual.MissingExtraError: `params.perceptual` without the extra.
    """
    if not pairs:
        raise ReportError(f"{name}: no pairs to judge it on; expected at least one")
    if params.perceptual:
        from overtone import perceptual

        perceptual.require()
    for part in ("figures", "audio"):
        shutil.rmtree(out / part, ignore_errors=True)
    examples = {pair.pair: _example(pair, out) for pair in _spread(pairs, params.figures)}
    tasks = [(pair, examples.get(pair.pair)) for pair in pairs]
    scores = parallel.run(_judge, _Judge(name, system, pairs_folder, params.perceptual), tasks, workers, progress)
    rows = [Row(pair, one) for pair, one in zip(pairs, scores, strict=True)]
    tree = summarise(rows) | {"test_set": fingerprint(pairs, pairs_folder)}
    report = Report(name, tree, tuple(rows), tuple(examples.values()))
    _write(report, out)
    return report


# --- judging ----------------------------------------------------------------------------------------------------------


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

    def enhance(self, pair: Pair, before: Signal) -> Signal:
        if self.system is None:
            self.system = self.make()
        return self.system.enhance(before, pair.rate, mode=pair.mode, cutoff_hz=pair.cutoff_hz)

    def score(self, pair: Pair, after: Signal, reference: Signal) -> Scores:
        prediction = torch.from_numpy(np.ascontiguousarray(after, dtype=np.float32))
        target = torch.from_numpy(reference)
        try:
            scores = metrics.score(prediction, target, pair.rate, pair.cutoff_hz, pair.bandwidth_hz)
        except ValueError as error:
            raise ReportError(f"{self.name}: pair {pair.pair}: {error}") from None
        if self.perceptual:
            from overtone import perceptual

            scores |= perceptual.score(metrics.round_16_bit(prediction).numpy(), reference, pair.rate, pair.kind)
        return scores


def _read(folder: Path, relative: str | Path, pair: Pair) -> Signal:
    path = folder / relative
    signal, rate = audio.read(path)
    if rate != pair.rate or signal.shape != (pair.channels, pair.frames):
        raise ReportError(
            f"{path}: {signal.shape} (channels, samples) at {rate} Hz; "
            f"its pair says {(pair.channels, pair.frames)} at {pair.rate} Hz"
        )
    return signal


def _judge(judge: _Judge, task: tuple[Pair, Example | None]) -> Scores:
    pair, example = task
    before, reference = (_read(judge.pairs_folder, relative, pair) for relative in (pair.input, pair.target))
    after = judge.enhance(pair, before)
    scores = judge.score(pair, after, reference)
    if example is not None:
        # Drawing loads matplotlib, which most processes never need.
        from overtone import figures

        for path, signal in ((example.before, before), (example.after, after), (example.reference, reference)):
            audio.write(path, signal, pair.rate)
        panels = {"input": before, f"output of {judge.name}, LSD {scores['lsd']:.2f}": after, "target": reference}
        title = f"{pair.condition} · {pair.kind} · {pair.clip}"
        figures.draw(example.figure, panels, pair.rate, title=title, cutoff_hz=pair.cutoff_hz)
    return scores


def _example(pair: Pair, out: Path) -> Example:
    stem = f"{pair.condition}-{pair.clip}"
    before, after, reference = (out / "audio" / f"{stem}-{part}.flac" for part in ("before", "after", "reference"))
    return Example(pair, out / "figures" / f"{stem}.png", before, after, reference)


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """`count` pairs (or all, if fewer) spread over the conditions, the kinds taking turns; a matter of the pairs alone."""
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


# --- summing up -------------------------------------------------------------------------------------------------------


def _means(scores: Sequence[Mapping[str, float]]) -> Scores:
    """Mean of each metric over the clips (or conditions) that have it."""
    names = sorted({name for one in scores for name in one})
    return {name: fmean(one[name] for one in scores if name in one) for name in names}


def _by_kind(parts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Scores]:
    """Macro means: of each kind, over the conditions that have it."""
    kinds = sorted({kind for part in parts for kind in part})
    return {kind: _means([part[kind] for part in parts if kind in part]) for kind in kinds}


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, Scores]]:
    """{group: {kind: {metric: mean}}}, rounded to 6 decimals.

    A condition's figures are means over its clips, of each kind and of `all`; `extend`, `restore` and `overall` are means of
    the conditions' figures, so that each condition counts the same. A metric is averaged over what has it.
    """
    groups: dict[str, dict[str, Scores]] = {}
    modes: dict[str, str] = {}
    for condition in dict.fromkeys(row.pair.condition for row in rows):
        here = [row for row in rows if row.pair.condition == condition]
        modes[condition] = here[0].pair.mode
        kinds = sorted({row.pair.kind for row in here})
        groups[condition] = {kind: _means([row.scores for row in here if row.pair.kind == kind]) for kind in kinds}
        groups[condition]["all"] = _means([row.scores for row in here])
    for mode in ("extend", "restore"):
        parts = [groups[condition] for condition in modes if modes[condition] == mode]
        if parts:
            groups[mode] = _by_kind(parts)
    groups["overall"] = _by_kind([groups[condition] for condition in modes])
    return {
        group: {kind: {name: _round(value) for name, value in one.items()} for kind, one in kinds_of.items()}
        for group, kinds_of in groups.items()
    }


def _round(value: float) -> float:
    return round(value, _DECIMALS) + 0.0


def fingerprint(pairs: Sequence[Pair], pairs_folder: Path) -> str:
    """SHA-256 over the pairs' ids, recipes and files: two reports with the same one are comparable.

    Raises:
        ReportError: a file is missing.
    """
    digests: dict[Path, str] = {}
    lines = []
    for pair in pairs:
        for relative in (pair.input, pair.target):
            path = pairs_folder / relative
            if path not in digests:
                if not path.is_file():
                    raise ReportError(f"{path}: no such file; the manifest of the pairs names it")
                with path.open("rb") as file:
                    digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        files = (digests[pairs_folder / pair.input], digests[pairs_folder / pair.target])
        lines.append(json.dumps([pair.pair, pair.recipe, *files]))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(report: Report, out: Path) -> None:
    brief = {
        group: {name: report.metrics[group]["all"][name] for name in names if name in report.metrics[group]["all"]}
        for group, names in SUMMARY.items()
        if group in report.metrics
    }
    for name, tree in (("metrics.json", report.metrics), ("summary.json", brief)):
        with audio.replacing(out / name) as temporary:
            temporary.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n")
    found = {name for row in report.rows for name in row.scores}
    names = [*(name for name in MAIN_METRICS if name in found), *sorted(found - set(MAIN_METRICS))]
    fields = ("condition", "mode", "kind", "source", "clip", "cutoff_hz", "bandwidth_hz")
    _write_csv(
        out / "scores.csv",
        ("system", *fields, *names),
        [
            [report.name, *(getattr(row.pair, field) for field in fields), *_cells(row.scores, names)]
            for row in report.rows
        ],
    )
    conditions = dict.fromkeys(row.pair.condition for row in report.rows)
    _write_csv(
        out / "conditions.csv",
        ("system", "condition", "kind", *MAIN_METRICS),
        [
            [report.name, condition, kind, *_cells(scores, MAIN_METRICS)]
            for condition in conditions
            for kind, scores in report.metrics[condition].items()
        ],
    )


def _cells(scores: Mapping[str, float], names: Sequence[str]) -> list[float | str]:
    return [_round(scores[name]) if name in scores else "" for name in names]


def _write_csv(path: Path, head: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    with audio.replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(lines)
