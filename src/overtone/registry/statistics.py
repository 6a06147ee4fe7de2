"""How sure a gain on the test set is: the paired bootstrap over sources and clips. Pure functions of the clips' scores."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overtone.evaluation import statistics
from overtone.params import BootstrapParams
from overtone.tracking.store import TrackingError

_MACRO = ("extend", "restore")
_FIELDS = ("condition", "mode", "kind", "source", "clip")
_LABELS = {*_FIELDS, "system", "cutoff_hz", "bandwidth_hz"}

Key = tuple[str, ...]
Array = NDArray[np.float64]


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

    Units are drawn with replacement, the same for both models, and the reported figure (means over clips in each condition,
    then over conditions) is calculated afresh from all conditions of the units drawn. The bound is the lower of two
    one-sided percentile bounds: with sources as units, since clips of one voice are alike, and with clips, since a test set
    may hold but one or two sources.

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
    old, new = ([rows[key] for key in common] for rows in (first, second))
    rng = np.random.default_rng(seed)

    def gains(columns: Sequence[int], weights: Array) -> Array:
        return sign * (_statistic(new, metric, columns, weights) - _statistic(old, metric, columns, weights))

    bounds, counts = [], []
    # A key is condition, kind, source, clip.
    for part in (slice(1, 3), slice(1, 4)):
        places = {unit: place for place, unit in enumerate(sorted({key[part] for key in common}))}
        columns, count = [places[key[part]] for key in common], len(places)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=params.resamples).astype(float)
        bounds.append(float(np.nanquantile(gains(columns, weights), 1 - params.confidence)))
        counts.append(count)
    whole = float(gains(columns, np.ones((1, count)))[0])
    return Gain(whole, min(bounds), clips=counts[1], sources=counts[0])


def _chosen(rows: Sequence[Row], path: str) -> list[Row]:
    """The rows that a figure rests on."""
    parts = path.split(".")
    if len(parts) != 3:
        return []
    group, kind, metric = parts
    return [
        row
        for row in rows
        if metric in row.scores
        and kind in ("all", row.kind)
        and (group in ("overall", row.condition) or (group in _MACRO and group == row.mode))
    ]


def _statistic(rows: Sequence[Row], metric: str, columns: Sequence[int], weights: Array) -> Array:
    """The reported figure for each line of weights.

    Args:
        rows: the clips that it rests on.
        metric: which of their scores.
        columns: each row's unit, as a column of `weights`.
        weights: how often each unit was drawn.

    Shape:
        weights: (resamples, units); returns (resamples,).
    """
    conditions = {name: place for place, name in enumerate(dict.fromkeys(row.condition for row in rows))}
    sums, counts = np.zeros((2, weights.shape[1], len(conditions)))
    for row, column in zip(rows, columns, strict=True):
        sums[column, conditions[row.condition]] += row.scores[metric]
        counts[column, conditions[row.condition]] += 1
    drawn = weights @ counts
    with np.errstate(invalid="ignore"):
        # A condition of which nothing was drawn counts in no mean.
        parts = np.where(drawn > 0, weights @ sums / np.maximum(drawn, 1), np.nan)
    found = ~np.isnan(parts)
    means: Array = np.where(found, parts, 0.0).sum(axis=1) / np.where(found.any(axis=1), found.sum(axis=1), np.nan)
    return means
