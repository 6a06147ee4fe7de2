"""The page on which all systems stand beside each other: one HTML file that needs nothing else."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from overtone import audio
from overtone.evaluation import table
from overtone.evaluation.clips import Card
from overtone.evaluation.shown import System

# The chart libraries, inside the page that `dvc plots` uses.
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


def write(path: Path, systems: Sequence[System], cards: Sequence[Card] = (), ablation: Path | None = None) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        systems: in the order of the tables, baselines first.
        cards: clips to listen to.
        ablation: a CSV to show as it is.
    """
    trees = {system.name: system.metrics for system in systems}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("overtone.evaluation", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("page.html.j2").render(
        names=list(trees),
        test_sets=sorted({str(tree.get("test_set", ""))[:12] for tree in trees.values()}),
        clips=len({(one.condition, one.clip) for system in systems for one in system.clips}),
        conditions=table.conditions(trees),
        figures=table.figure_rows(trees),
        by_condition=table.rows(trees),
        recorded=[system for system in systems if system.facts or system.run],
        libraries=_libraries(),
        charts=_charts(systems),
        cards=cards,
        ablation=_csv(ablation),
    )
    with audio.replacing(path) as temporary:
        temporary.write_text(text)


def _libraries() -> list[str]:
    """Vega, Vega-Lite and vega-embed as scripts; none outside a project, where the page goes without charts."""
    if not LIBRARIES.is_file():
        return []
    found = re.findall(r"<script>(.*?)</script>", LIBRARIES.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [script for script in found if len(script) > 10_000]


def _csv(path: Path | None) -> list[list[str]]:
    if path is None or not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.reader(file))


# --- charts, as Vega-Lite ---------------------------------------------------------------------------------------------


def _charts(systems: Sequence[System]) -> dict[str, str]:
    """Heading -> specification, as JSON that may stand in a script element."""
    names = [system.name for system in systems]
    found = {"By condition": _by_condition(systems, names), "Over the clips": _by_clip(systems, names)}
    points = [
        {"system": system.name, "step": line["step"], "metric": name, "value": value}
        for system in systems
        for line in system.history
        if "step" in line
        for name, value in line.items()
        if "_valid_" in name
    ]
    if points:
        found["Training, on the validation split"] = _curves(points, names)
    return {title: json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c") for title, spec in found.items()}


def _colour(names: Sequence[str]) -> dict[str, Any]:
    return {"field": "system", "type": "nominal", "sort": list(names), "title": None}


def _choice(metrics: Mapping[str, str]) -> list[dict[str, Any]]:
    """A list to choose a metric from, the first at first."""
    bind = {"input": "select", "options": list(metrics), "labels": list(metrics.values()), "name": "Metric "}
    return [{"name": "metric", "value": next(iter(metrics)), "bind": bind}]


def _chosen(values: Sequence[Mapping[str, Any]], metrics: Mapping[str, str]) -> dict[str, Any]:
    return {"data": {"values": values}, "params": _choice(metrics), "transform": [{"filter": "datum.metric == metric"}]}


def _by_condition(systems: Sequence[System], names: Sequence[str]) -> dict[str, Any]:
    trees = {system.name: system.metrics for system in systems}
    groups = [*table.conditions(trees), *table.MACRO_GROUPS]
    values = []
    for system in systems:
        halves = system.metrics.get("interval", {})
        for group in groups:
            for kind in table.kinds(trees, group):
                for metric, mean in system.metrics.get(group, {}).get(kind, {}).items():
                    half = table.value(halves, group, kind, metric) or 0.0
                    ends = {"low": round(mean - half, 4), "high": round(mean + half, 4), "mean": round(mean, 4)}
                    values.append({"system": system.name, "group": group, "kind": kind, "metric": metric, **ends})
    known = {name: title for name, title in METRICS.items() if any(one["metric"] == name for one in values)}
    y = {"field": "group", "type": "nominal", "sort": groups, "title": None}
    offset = {"field": "system", "type": "nominal", "sort": list(names)}
    shared = {"y": y, "yOffset": offset, "color": _colour(names)}
    low = {"field": "low", "type": "quantitative", "title": None, "scale": {"zero": False}}
    tooltip = [{"field": name} for name in ("system", "mean", "low", "high")]
    layers = [
        {"mark": "rule", "encoding": {**shared, "x": low, "x2": {"field": "high"}}},
        {
            "mark": {"type": "point", "filled": True, "size": 40},
            "encoding": {**shared, "x": {"field": "mean", "type": "quantitative"}, "tooltip": tooltip},
        },
    ]
    facet = {"field": "kind", "type": "nominal", "title": None}
    spec = {"width": 340, "height": {"step": 7}, "layer": layers}
    return _chosen(values, known) | {"facet": {"column": facet}, "spec": spec}


def _by_clip(systems: Sequence[System], names: Sequence[str]) -> dict[str, Any]:
    values = [
        {"system": system.name, "metric": metric, "value": round(score, 3), "kind": one.kind, "mode": one.mode,
         "clip": f"{one.condition}/{one.clip}"}
        for system in systems
        for one in system.clips
        for metric, score in one.scores.items()
        if metric in ("lsd", "lsd_hf", "lsd_lf", "si_sdr")
    ]  # fmt: skip
    known = {name: METRICS[name] for name in METRICS if any(one["metric"] == name for one in values)}
    spec = {
        "width": 340,
        "height": {"step": 26},
        "mark": {"type": "tick", "thickness": 1, "opacity": 0.6},
        "encoding": {
            "x": {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False}},
            "y": {"field": "system", "type": "nominal", "sort": list(names), "title": None},
            "color": _colour(names) | {"legend": None},
            "tooltip": [{"field": "clip"}, {"field": "value"}],
        },
    }
    facet = {"column": {"field": "kind", "title": None}, "row": {"field": "mode", "title": None}}
    return _chosen(values, known) | {"facet": facet, "spec": spec}


def _curves(points: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    known = {str(one["metric"]): str(one["metric"]) for one in points}
    encoding = {
        "x": {"field": "step", "type": "quantitative", "title": "optimiser step"},
        "y": {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False}},
        "color": _colour(names),
    }
    return _chosen(points, known) | {
        "width": 600,
        "height": 220,
        "mark": {"type": "line", "point": True},
        "encoding": encoding,
    }
