"""Examples of what a system does: the clips that came out worst and best, as spectrograms and as audio files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from overtone import audio
from overtone.data.pairs import Pair
from overtone.evaluation import figures
from overtone.evaluation.judge import Enhancer, enhanced, read
from overtone.evaluation.report import AUDIO, FIGURES, METRIC, PARTS, name_of
from overtone.evaluation.statistics import Row


def chosen(rows: Sequence[Row], count: int) -> list[Row]:
    """At most so many rows: of each mode and kind the one of the highest LSD, then of each the one of the lowest."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.mode != "clean" and METRIC in row.scores:
            groups.setdefault((row.mode, row.kind), []).append(row)
    ranked = [sorted(group, key=lambda row: row.scores[METRIC]) for _, group in sorted(groups.items())]
    picked = [*(group[-1] for group in ranked), *(group[0] for group in ranked)]
    return list({(row.condition, row.clip): row for row in picked}.values())[:count]


def write(
    name: str,
    make: Callable[[], Enhancer],
    rows: Sequence[Row],
    pairs: Sequence[Pair],
    pairs_folder: Path,
    count: int,
    out: Path,
) -> None:
    """Replace `out/figures` and `out/audio` by the examples of a judged system.

    Each has a PNG and three FLAC files, before, after and reference. The outputs are those that were judged.

    Args:
        name: what the report calls the system.
        make: makes the system.
        rows: its scores.
        pairs: what it was judged on; their paths are relative to `pairs_folder`.
        count: how many examples, at most.
    """
    for part in (FIGURES, AUDIO):
        shutil.rmtree(out / part, ignore_errors=True)
    known = {(pair.condition, pair.clip): pair for pair in pairs}
    if not (picked := chosen(rows, count)):
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        system = make()
        for row in picked:
            _write(name, system, row, known[row.condition, row.clip], pairs_folder, out)
    finally:
        torch.set_num_threads(threads)


def _write(name: str, system: Enhancer, row: Row, pair: Pair, pairs_folder: Path, out: Path) -> None:
    before, reference = read(pairs_folder, pair)
    after = enhanced(name, system, pair, before)
    paths = [out / AUDIO / f"{name_of(row)}-{part}.flac" for part in PARTS]
    rates = (pair.input_rate, pair.rate, pair.rate)
    for path, signal, rate in zip(paths, (before, after, reference), rates, strict=True):
        audio.write(path, signal, rate)
    given = audio.fit_length(audio.resample(before, pair.input_rate, pair.rate), pair.frames)
    panels = {"input": given, f"output of {name}, LSD {row.scores[METRIC]:.2f}": after, "original": reference}
    title = f"{pair.condition} · {pair.kind} · {pair.clip}"
    figures.draw(out / FIGURES / f"{name_of(row)}.png", panels, pair.rate, title=title, cutoff_hz=pair.cutoff_hz)
