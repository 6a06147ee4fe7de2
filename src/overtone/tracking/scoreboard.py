"""Scores under names by which MLflow's charts show all systems on one plot without set-up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overtone.evaluation import table as comparison
from overtone.tracking import entries, store

# Before `test/` in the alphabet, which is the order of MLflow's sections of charts.
CONDITIONS = "conditions"
SCORES = "scores"
# What is drawn over the conditions, as (kind, metric).
_DRAWN = (
    *(("all", metric) for metric in ("lsd", "lsd_hf", "lsd_lf", "si_sdr", "snr")),
    ("music", "lsd"),
    ("speech", "lsd"),
)

Point = tuple[str, float, int]


def points(metrics: Mapping[str, Any]) -> list[Point]:
    """(name, value, step) of what is worth a chart: all `test/` figures are too many for charts.

    `conditions/<metric>.<kind>` is a line over the conditions, the step being the condition's number in `numbered`;
    `scores/<group>.<kind>` a bar, LSD of a macro group.
    """
    found: list[Point] = []
    for step, condition in numbered(metrics).items():
        for kind, metric in _DRAWN:
            value = metrics[condition].get(kind, {}).get(metric)
            if value is not None:
                found.append((f"{CONDITIONS}/{metric}.{kind}", float(value), step))
    columns, rows = comparison.key_figures({"": metrics})
    for (group, kind), score in zip(columns, rows[""], strict=True):
        if score is not None:
            found.append((f"{SCORES}/lsd.{group}.{kind}", score, 0))
    return found


def numbered(metrics: Mapping[str, Any]) -> dict[int, str]:
    """The conditions by the step that stands for each."""
    return dict(enumerate(comparison.conditions({"": metrics}), 1))


def log(run_id: str, metrics: Mapping[str, Any]) -> None:
    """Log the points that are not there yet: a chart would show one that was logged twice as two."""
    client = store.client()
    wanted = points(metrics)
    known = {
        (name, one.step): one.value
        for name in dict.fromkeys(name for name, _, _ in wanted)
        for one in sorted(client.get_metric_history(run_id, name), key=lambda one: int(one.timestamp))
    }
    entries.log_metrics(client, run_id, [one for one in wanted if known.get((one[0], one[2])) != one[1]])
