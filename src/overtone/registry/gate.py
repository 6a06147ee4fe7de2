"""The promotion gate: whether a candidate's scores earn it the champion's place. Pure functions of the figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from overtone.params import RegisterParams
from overtone.registry import statistics
from overtone.registry.statistics import Gain, Row

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Rule:
    """What the main metric must show: a gain surely above `margin`, on at least `samples` clips."""

    margin: float
    samples: int
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """One metric of candidate and champion.

    `tolerance`: how much worse passes; None for the main metric, which must improve by `rule`, with `gain` as its evidence.
    Guards go by the means alone: a bound would either let any fall pass on few clips, or block any model on them.
    """

    metric: str
    better: Literal["lower", "higher"]
    tolerance: float | None
    candidate: float | None
    champion: float | None
    rule: Rule | None = None
    gain: Gain | None = None

    @property
    def passed(self) -> bool:
        """The main metric is surely better, a guard not worse beyond its tolerance; a guard neither model has passes."""
        if self.candidate is None or self.champion is None:
            return self.tolerance is not None and self.candidate is None and self.champion is None
        if self.tolerance is None:
            return not self.shortfall
        gain = self.champion - self.candidate if self.better == "lower" else self.candidate - self.champion
        return gain >= -self.tolerance

    @property
    def shortfall(self) -> str:
        """What the main metric lacks; empty where it lacks nothing."""
        if self.rule is None or self.gain is None or self.candidate is None or self.champion is None:
            return "no scores by clip to compare"
        if self.gain.clips < self.rule.samples:
            return f"only {self.gain.clips} test clips, {self.rule.samples} needed"
        # Not the other way round: a bound that is not a number is no gain.
        return "" if self.gain.lower > self.rule.margin else f"gain not surely above {self.rule.margin:g}"

    def __str__(self) -> str:
        figures = " against ".join(
            "none" if value is None else f"{value:.4f}" for value in (self.candidate, self.champion)
        )
        rule = "" if self.tolerance is None else f", tolerance {self.tolerance:g}"
        text = f"{self.metric} {figures} ({self.better} is better{rule})"
        if self.rule is None or self.gain is None:
            return text
        return (
            f"{text}, gain {self.gain.mean:.4f}, at {self.rule.confidence:.0%} confidence above {self.gain.lower:.4f} "
            f"({self.gain.clips} clips of {self.gain.sources} sources)"
        )


def value(tree: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted path of a metrics tree; None where there is none or it is not finite."""
    node: Any = tree
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if isinstance(node, bool) or not isinstance(node, int | float) or not math.isfinite(node):
        return None
    return float(node)


def metrics(params: RegisterParams) -> tuple[str, ...]:
    """The dotted paths that the gate looks at, the main metric first."""
    return tuple(dict.fromkeys((params.metric, *(guard.metric for guard in params.guards))))


def scores(tree: Mapping[str, Any], params: RegisterParams) -> dict[str, float]:
    """The gate's metrics that a tree holds."""
    return {path: number for path in metrics(params) if (number := value(tree, path)) is not None}


def better(first: float, second: float, params: RegisterParams) -> bool:
    """Whether `first` beats `second` on the main metric."""
    return first < second if params.better == "lower" else first > second


def compare(
    candidate: Scores,
    champion: Scores,
    params: RegisterParams,
    candidate_rows: Sequence[Row] = (),
    champion_rows: Sequence[Row] = (),
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Main metric and guards of two models scored on the same test set, from their means and from their clips' scores."""
    gain = statistics.gain(champion_rows, candidate_rows, params.metric, params.better, params.bootstrap, seed)
    main = Comparison(
        params.metric,
        params.better,
        None,
        candidate.get(params.metric),
        champion.get(params.metric),
        Rule(params.margin, params.samples, params.bootstrap.confidence),
        gain,
    )
    guards = (
        Comparison(g.metric, g.better, g.tolerance, candidate.get(g.metric), champion.get(g.metric))
        for g in params.guards
    )
    return (main, *guards)


def verdict(comparisons: Sequence[Comparison]) -> tuple[bool, str]:
    """Whether all comparisons pass, and the sentence that says why."""
    failed = [comparison for comparison in comparisons if not comparison.passed]
    if not failed:
        return True, f"beats the champion: {comparisons[0]}; no guard metric falls"
    kinds = [
        f"does not beat the champion, {one.shortfall}" if one.tolerance is None else "falls on a guard metric"
        for one in failed
    ]
    return False, "; ".join(f"{kind}: {one}" for kind, one in zip(kinds, failed, strict=True))
