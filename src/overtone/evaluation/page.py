"""The page on which systems stand beside each other: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from overtone import audio
from overtone.evaluation import table
from overtone.evaluation.report import AUDIO, FIGURES, METRIC, PARTS, Report, name_of

# Vega, Vega-Lite and vega-embed, inside the page that `dvc plots` uses.
LIBRARIES = Path(".dvc/plots/page.html")
# Metric -> what the page calls it.
METRICS = {
    "lsd": "Log-spectral distance (LSD)",
    "lsd_hf": "LSD above the cutoff",
    "lsd_lf": "LSD below the cutoff",
    "visqol": "ViSQOL",
    "si_sdr": "SI-SDR of the known band, dB",
    "snr": "SNR of the known band, dB",
    "bias_hf_db": "Level above the cutoff, dB",
    "excess_db": "Sound above the recording's band, dB",
    "copies": "Copied strips",
    "hop_line_db": "Buzz at the hop rate, dB",
    "tonality_error_db": "Tones or noise, error in dB",
    "coherence_error": "Stereo: error of coherence",
    "side_mid_error_db": "Stereo: error of the side's level, dB",
    "pesq": "PESQ, wide band",
    "stoi": "STOI",
}
# Those of which every clip is drawn.
BY_CLIP = ("lsd", "lsd_hf", "lsd_lf", "si_sdr")


@dataclass(frozen=True)
class Run:
    """A run of an experiment tracker; `url` is empty where it has no address of its own (a database file)."""

    run_id: str
    name: str
    url: str = ""


def write(path: Path, reports: Sequence[Report], runs: Mapping[str, Run] | None = None) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        reports: in the order of the tables, baselines first.
        runs: system -> its run.
    """
    trees = {report.name: report.metrics for report in reports}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("overtone.evaluation", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("page.html.j2").render(
        names=list(trees),
        test_sets=sorted({str(tree.get("test_set", ""))[:12] for tree in trees.values()}),
        clips=len({(row.condition, row.clip) for report in reports for row in report.rows}),
        conditions=table.conditions(trees),
        figures=table.figure_rows(trees),
        by_condition=table.rows(trees),
        runs=runs or {},
        libraries=_libraries(),
        metrics=list(METRICS.items()),
        groups=[*table.conditions(trees), *table.MACRO_GROUPS],
        means=_means(trees),
        scores=_scores(reports),
        examples=[example for report in reports for example in _examples(report)],
    )
    with audio.replacing(path) as temporary:
        temporary.write_text(text)


def _libraries() -> list[str]:
    """The chart libraries as scripts; none outside a project, where the page has no charts."""
    if not LIBRARIES.is_file():
        return []
    found = re.findall(r"<script>(.*?)</script>", LIBRARIES.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [script for script in found if len(script) > 10_000]


def _means(trees: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every mean with the ends of its interval, as rows of a chart."""
    return [
        {"system": name, "group": group, "kind": kind, "metric": metric, "mean": round(mean, 4)}
        | {"low": round(mean - half, 4), "high": round(mean + half, 4)}
        for name, tree in trees.items()
        for group in (*table.conditions(trees), *table.MACRO_GROUPS)
        for kind in table.kinds(trees, group)
        for metric, mean in tree.get(group, {}).get(kind, {}).items()
        for half in [table.value(tree.get("interval", {}), group, kind, metric) or 0.0]
    ]


def _scores(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Scores of clips, as rows of a chart."""
    return [
        {"system": report.name, "metric": metric, "value": round(row.scores[metric], 3), "kind": row.kind}
        | {"mode": row.mode, "clip": name_of(row)}
        for report in reports
        for row in report.rows
        for metric in BY_CLIP
        if metric in row.scores
    ]


def _examples(report: Report) -> list[dict[str, Any]]:
    """A system's examples, worst first: what they are called, picture and sounds as data URIs."""
    found = []
    for row in sorted(report.rows, key=lambda row: -row.scores.get(METRIC, 0.0)):
        name = name_of(row)
        picture = report.folder / FIGURES / f"{name}.png"
        if picture.is_file():
            sounds = {part: _sound(report.folder / AUDIO / f"{name}-{part}.flac") for part in PARTS}
            title = f"{report.name}, {row.condition}: {row.clip}"
            found.append({"title": title, "picture": _uri("image/png", picture.read_bytes()), "sounds": sounds})
    return found


def _sound(path: Path) -> str:
    """An audio file as MP3, level and channels untouched; the same file gives the same text."""
    signal, rate = audio.read(path)
    return _uri("audio/mpeg", audio.encode(np.clip(signal, -1.0, 1.0), rate, "MP3", "MPEG_LAYER_III"))


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
