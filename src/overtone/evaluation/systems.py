"""What the page shows of each system, read from its report and its model folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overtone.errors import OvertoneError

LABELS = ("system", "condition", "mode", "kind", "source", "clip", "cutoff_hz", "bandwidth_hz")


class OverviewError(OvertoneError):
    """A report that cannot be shown; the message names the file and what was expected."""


@dataclass(frozen=True)
class ClipScores:
    """One test clip under one condition; a metric that is not defined for it is absent."""

    condition: str
    mode: str
    kind: str
    clip: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """An MLflow run to lead to. `url` is empty where the store has no address of its own (a database file)."""

    run_id: str
    name: str
    url: str = ""


@dataclass(frozen=True)
class System:
    """A judged system.

    `metrics` is {group: {kind: {metric: mean}}} without the test set's digest; `history` the training's table, `facts` its
    `run.json`, both empty for a baseline.
    """

    name: str
    metrics: Mapping[str, Any]
    test_set: str
    clips: tuple[ClipScores, ...]
    history: tuple[Mapping[str, float], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    run: Run | None = None

    @property
    def trained(self) -> bool:
        return bool(self.facts)

    def value(self, group: str, kind: str, metric: str) -> float | None:
        """A mean, None where it is not defined."""
        found: float | None = self.metrics.get(group, {}).get(kind, {}).get(metric)
        return found


def load(name: str, report: Path, model: Path | None = None, run: Run | None = None) -> System:
    """A system from its report's folder and, if it was trained, its model folder.

    Raises:
        OverviewError: a file is missing or is not what the stages evaluate and train write.
    """
    tree = _json(report / "metrics.json")
    test_set = str(tree.pop("test_set", ""))
    clips = tuple(_clip(line, report / "scores.csv") for line in _lines(report / "scores.csv"))
    if model is None:
        return System(name, tree, test_set, clips, run=run)
    history = tuple({key: float(text) for key, text in line.items() if text} for line in _lines(model / "history.csv"))
    return System(name, tree, test_set, clips, history, _json(model / "run.json"), run)


def _clip(line: Mapping[str, str], path: Path) -> ClipScores:
    try:
        scores = {name: float(text) for name, text in line.items() if name not in LABELS and text}
        return ClipScores(line["condition"], line["mode"], line["kind"], line["clip"], scores)
    except (KeyError, ValueError) as error:
        raise OverviewError(f"{path}: expected a report's table of scores by clip ({error})") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text())
    except FileNotFoundError:
        raise OverviewError(f"{path}: no such file; expected the output of an earlier stage (dvc repro)") from None
    except json.JSONDecodeError as error:
        raise OverviewError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(tree, dict):
        raise OverviewError(f"{path}: expected a JSON object")
    return tree


def _lines(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise OverviewError(f"{path}: no such file; expected the output of an earlier stage (dvc repro)")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
