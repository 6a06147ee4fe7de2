"""How sure a gain on the test set is: the paired bootstrap over sources. Pure functions of the clips' scores."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from overtone.evaluation import statistics
from overtone.params import BootstrapParams
from overtone.tracking.store import TrackingError

_FIELDS = ("condition", "mode", "kind", "source", "clip")
_LABELS = {*_FIELDS, "system", "cutoff_hz", "bandwidth_hz"}

Key = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """The scores of one test clip under one condition; a metric that is not defined for it is absent."""

    condition: str
    mode: str
    kind: str
    source: str
    clip: str
    scores: Mapping[str, float]

    @property
    def key(self) -> Key:
        return self.condition, self.kind, self.source, self.clip


@dataclass(frozen=True)
class Gain:
    """How much better the second of two models is on one metric.

    `mean` is the difference of the means that metrics.json reports, positive where the second is better; `lower` its lower
    confidence bound, `clips` and `sources` what it rests on.
    """

    mean: float
    lower: float
    clips: int
    sources: int


def read(table: str) -> list[Row]:
    """The rows of a report's `scores.csv`.

    Raises:
        TrackingError: not such a table.
    """
    rows = []
    for number, line in enumerate(csv.DictReader(io.StringIO(table)), 2):
        fields = {name: line[name] for name in _FIELDS if line.get(name) is not None}
        if len(fields) < len(_FIELDS):
            raise TrackingError(f"scores.csv: expected the columns {', '.join(_FIELDS)}")
        scores = {name: number_of for name, text in line.items() if (number_of := _number(name, text)) is not None}
        if not scores:
            raise TrackingError(f"scores.csv, line {number}: holds no score")
        rows.append(Row(**fields, scores=scores))
    return rows


def _number(name: str, text: str | None) -> float | None:
    if name in _LABELS or not text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def mean(rows: Sequence[Row], path: str) -> float | None:
    """The figure that metrics.json holds at a dotted path (group.kind.metric), from the clips; None where there is none."""
    group, kind, metric = path.split(".") if path.count(".") == 2 else ("", "", "")
    found = statistics.figure(statistics.of_group(rows, group), kind, metric)
    return found.mean if found else None


def gain(
    before: Sequence[Row], after: Sequence[Row], path: str, better: str, params: BootstrapParams, seed: int
) -> Gain | None:
    """The gain of one model over another on a metric, with its lower confidence bound.

    Sources are drawn with replacement, the same for both models, and the reported figure (see `mean`) is calculated afresh
    from those drawn; the bound is the one-sided percentile bound. One source alone says nothing: minus infinity.

    Args:
        before: the rows of the model to beat.
        after: the rows of the one that would replace it; pairs that only one of the two has are left out.
        path: dotted path of the metric: group.kind.metric.
        better: "lower" or "higher".
        params: number of resamples, confidence.
        seed: of the draws.

    Returns:
        None where the two have no pair in common.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3 (percentile interval) and chapter 8
        (the unit of resampling).
    """
    first, second = ({row.key: row for row in _chosen(rows, path)} for rows in (before, after))
    common = sorted(set(first) & set(second))
    if not common:
        return None
    metric = path.split(".")[2]
    sign = 1.0 if better == "higher" else -1.0
    old, new = (statistics.by_source([rows[key] for key in common], metric) for rows in (first, second))
    changes: dict[str, list[float]] = {}
    for kind, source in old:
        changes.setdefault(kind, []).append(sign * (new[kind, source] - old[kind, source]))
    whole = fmean(fmean(one) for one in changes.values())
    lower = -math.inf
    if len(old) > 1:
        rng = np.random.default_rng(seed)
        drawn = [rng.choice(np.array(one), (params.resamples, len(one))).mean(axis=1) for one in changes.values()]
        lower = float(np.quantile(np.mean(drawn, axis=0), 1 - params.confidence))
    return Gain(whole, lower, clips=len({key[1:] for key in common}), sources=len(old))


def _chosen(rows: Sequence[Row], path: str) -> list[Row]:
    """The rows that a figure rests on."""
    parts = path.split(".")
    if len(parts) != 3:
        return []
    group, kind, metric = parts
    return [row for row in statistics.of_group(rows, group) if metric in row.scores and kind in ("all", row.kind)]
