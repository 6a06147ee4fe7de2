"""Means over sources with their 95 % intervals, and differences of two systems: what can be said and what cannot.

Clips of one voice or one piece are alike, so a source counts once, whatever the number of its clips; the kinds of sound
(speech, music) count the same in `all`. Pure functions of scored rows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import scipy.stats

CONFIDENCE = 0.95
MACRO_GROUPS = ("extend", "restore", "overall")


@dataclass(frozen=True)
class Row:
    """What one clip scored under one condition; a metric that is not defined for it is absent."""

    condition: str
    mode: str
    kind: str
    source: str
    clip: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Estimate:
    """A mean over sources; `half` is half the width of its 95 % interval, None where one source alone says nothing of it."""

    mean: float
    half: float | None
    sources: int

    @property
    def real(self) -> bool:
        """Whether the interval excludes zero: only then is a difference called one."""
        return self.half is not None and abs(self.mean) > self.half


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and t interval of independent values, at least one.

    Source: Student's t interval of a mean, by scipy.
    """
    mean, count = fmean(values), len(values)
    if count < 2:
        return Estimate(mean, None, count)
    error = float(scipy.stats.sem(values))
    low, high = scipy.stats.t.interval(CONFIDENCE, count - 1, mean, error) if error > 0.0 else (mean, mean)
    return Estimate(mean, float(high - low) / 2.0, count)


def of_group(rows: Iterable[Row], group: str) -> list[Row]:
    """The rows of a condition, or of a macro group: `extend`, `restore` (by their mode) or `overall` (both)."""
    modes = ("extend", "restore") if group == "overall" else (group,) if group in MACRO_GROUPS else ()
    return [row for row in rows if row.condition == group or row.mode in modes]


def by_source(rows: Iterable[Row], metric: str) -> dict[tuple[str, str], float]:
    """(kind, source) -> mean over its conditions of the mean over its clips; sources without the metric are left out."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if metric in row.scores:
            found[row.kind, row.source][row.condition].append(row.scores[metric])
    return {source: fmean(fmean(clips) for clips in parts.values()) for source, parts in found.items()}


def figure(rows: Iterable[Row], kind: str, metric: str) -> Estimate | None:
    """A metric's mean over the sources of a kind with its interval; for `all` over the kinds, each counting the same.

    Returns:
        None where no row has the metric.
    """
    return _over_kinds(by_source(rows, metric), kind)


def difference(first: Sequence[Row], second: Sequence[Row], kind: str, metric: str) -> Estimate | None:
    """Second minus first on the clips and conditions that both have, paired by source.

    Returns:
        None where the two have nothing in common.
    """
    left, right = ({(row.condition, row.kind, row.source, row.clip): row for row in rows} for rows in (first, second))
    common = [key for key in left if key in right and metric in left[key].scores and metric in right[key].scores]
    before, after = (by_source([rows[key] for key in common], metric) for rows in (left, right))
    return _over_kinds({source: after[source] - before[source] for source in before}, kind)


def _over_kinds(values: Mapping[tuple[str, str], float], kind: str) -> Estimate | None:
    kinds = sorted({own for own, _ in values}) if kind == "all" else [kind]
    parts = [estimate(group) for own in kinds if (group := [v for (k, _), v in values.items() if k == own])]
    if not parts:
        return None
    halves = [part.half for part in parts if part.half is not None]
    half = math.sqrt(sum(one**2 for one in halves)) / len(parts) if len(halves) == len(parts) else None
    return Estimate(fmean(part.mean for part in parts), half, sum(part.sources for part in parts))
