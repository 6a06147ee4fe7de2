"""What the report's page shows of each system, read from its report and its model folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overtone.errors import OvertoneError

_LABELS = ("system", "condition", "mode", "kind", "source", "clip", "cutoff_hz", "bandwidth_hz")


class ReportError(OvertoneError):
    """A report that cannot be shown; the message names the file and what was expected."""


@dataclass(frozen=True)
class Clip:
    """One clip under one condition; a metric that is not defined for it is absent."""

    condition: str
    mode: str
    kind: str
    source: str
    clip: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """A run of an experiment tracker to lead to; `url` is empty where it has no address of its own (a database file)."""

    run_id: str
    name: str
    url: str = ""


@dataclass(frozen=True)
class System:
    """A judged system: its metrics.json, its clips, for a network the training's table and its `run.json`."""

    name: str
    metrics: Mapping[str, Any]
    clips: tuple[Clip, ...]
    history: tuple[Mapping[str, float], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    run: Run | None = None


def load(name: str, report: Path, model: Path | None = None, run: Run | None = None) -> System:
    """A system from its report's folder and, if it was trained, its model folder.

    Raises:
        ReportError: a file is missing or is not what the stages evaluate and train write.
    """
    metrics = _json(report / "metrics.json")
    clips = tuple(_clip(line, report / "scores.csv") for line in _lines(report / "scores.csv"))
    if model is None:
        return System(name, metrics, clips, run=run)
    history = tuple(
        {key: float(text) for key, text in line.items() if text and key != "task"}
        for line in _lines(model / "history.csv")
    )
    return System(name, metrics, clips, history, _json(model / "run.json"), run)


def _clip(line: Mapping[str, str], path: Path) -> Clip:
    try:
        scores = {name: float(text) for name, text in line.items() if name not in _LABELS and text}
        return Clip(line["condition"], line["mode"], line["kind"], line["source"], line["clip"], scores)
    except (KeyError, ValueError) as error:
        raise ReportError(f"{path}: expected a report's table of scores by clip ({error})") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text())
    except FileNotFoundError:
        raise ReportError(f"{path}: no such file; expected the output of an earlier stage (dvc repro)") from None
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(tree, dict):
        raise ReportError(f"{path}: expected a JSON object")
    return tree


def _lines(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ReportError(f"{path}: no such file; expected the output of an earlier stage (dvc repro)")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
