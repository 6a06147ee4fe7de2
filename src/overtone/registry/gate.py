"""The promotion gate: whether a candidate's scores earn it the champion's place. Pure functions of the figures."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from overtone.registry import scores
from overtone.registry.scores import Gain, Scored
from overtone.registry.versions import RegistryError
from overtone.settings import RegisterParams
from overtone.tracking import entries

CHAMPION = "champion"


@dataclass(frozen=True)
class Rule:
    """What the main metric must show: a gain surely above `margin`, on at least `samples` sources."""

    margin: float
    samples: int


@dataclass(frozen=True)
class Comparison:
    """One metric of a candidate and of what it has to beat.

    `against`: the champion or a baseline. `tolerance`: how much worse passes; None for the main metric, which must improve
    by `rule`, with `gain` as its evidence. Guards go by the means alone: a bound would either let any fall pass on few
    sources, or block any model on them.
    """

    metric: str
    better: Literal["lower", "higher"]
    tolerance: float | None
    candidate: float
    champion: float
    rule: Rule | None = None
    gain: Gain | None = None
    against: str = CHAMPION

    @property
    def passed(self) -> bool:
        """The main metric is surely better, a guard not worse beyond its tolerance."""
        if self.tolerance is None:
            return not self.shortfall
        gain = self.champion - self.candidate if self.better == "lower" else self.candidate - self.champion
        return gain >= -self.tolerance

    @property
    def shortfall(self) -> str:
        """What the main metric lacks; empty where it lacks nothing."""
        if self.rule is None or self.gain is None:
            return "no scores by clip to compare"
        if self.gain.sources < self.rule.samples:
            return f"only {self.gain.sources} test sources, {self.rule.samples} needed"
        # Not the other way round: a bound that is not a number is no gain.
        return "" if self.gain.lower > self.rule.margin else f"gain not surely above {self.rule.margin:g}"

    def __str__(self) -> str:
        rule = "" if self.tolerance is None else f", tolerance {self.tolerance:g}"
        text = f"{self.metric} {self.candidate:.4f} against {self.champion:.4f} ({self.better} is better{rule})"
        if self.gain is None:
            return text
        sources = f"{self.gain.sources} source{'s' * (self.gain.sources != 1)}"
        return f"{text}, gain {self.gain.mean:.4f}, 95 % interval from {self.gain.lower:.4f} ({sources})"


def metrics(params: RegisterParams) -> tuple[str, ...]:
    """The dotted paths that the gate looks at, the main metric first."""
    return tuple(dict.fromkeys((params.metric, *(guard.metric for guard in params.guards))))


def figures(scored: Scored, params: RegisterParams) -> dict[str, float]:
    """The gate's metrics that a system has."""
    return {path: number for path in metrics(params) if (number := scored.value(path)) is not None}


def require(scored: Scored, params: RegisterParams, who: str) -> None:
    """Make sure that a system has every metric of the gate: one that does not exist would guard nothing.

    Raises:
        RegistryError: a metric is missing; the message names the setting and the metrics that are most like it.
    """
    for place, path in enumerate(metrics(params)):
        if scored.value(path) is not None:
            continue
        setting = "register.metric" if place == 0 else "register.guards"
        known = [name for name, _ in entries.leaves(scored.metrics)]
        near = difflib.get_close_matches(path, known, n=3, cutoff=0.4)
        raise RegistryError(
            f"{setting}: {who} has no finite {path!r}; expected a dotted path of its metrics.json"
            + (f", such as {', '.join(near)}" if near else "")
        )


def better(first: float, second: float, params: RegisterParams) -> bool:
    """Whether `first` beats `second` on the main metric."""
    return first < second if params.better == "lower" else first > second


def compare(candidate: Scored, champion: Scored, params: RegisterParams) -> tuple[Comparison, ...]:
    """Main metric and guards of two models scored by the same code on the same test set.

    Raises:
        RegistryError: one of the two lacks a metric.
    """
    require(candidate, params, "the candidate")
    require(champion, params, "the champion")
    guards = (
        Comparison(g.metric, g.better, g.tolerance, _value(candidate, g.metric), _value(champion, g.metric))
        for g in params.guards
    )
    return (_main(candidate, champion, params, CHAMPION), *guards)


def compare_baselines(
    candidate: Scored, baselines: Mapping[str, Scored], params: RegisterParams
) -> tuple[Comparison, ...]:
    """The main metric of a candidate and of each baseline: what a first champion must beat, by however little.

    Raises:
        RegistryError: one of them lacks the metric, or is scored on another test set.
    """
    main = params.model_copy(update={"guards": (), "margin": 0.0})
    for name, one in baselines.items():
        require(one, main, f"baseline {name}")
        if one.key != candidate.key:
            raise RegistryError(f"baseline {name}: scored on another test set than the candidate; run dvc repro")
    return tuple(_main(candidate, one, main, name) for name, one in baselines.items())


def _main(candidate: Scored, other: Scored, params: RegisterParams, against: str) -> Comparison:
    return Comparison(
        params.metric,
        params.better,
        None,
        _value(candidate, params.metric),
        _value(other, params.metric),
        Rule(params.margin, params.samples),
        scores.gain(other, candidate, params.metric, params.better),
        against,
    )


def _value(scored: Scored, path: str) -> float:
    found = scored.value(path)
    assert found is not None, path
    return found


def verdict(comparisons: Sequence[Comparison]) -> tuple[bool, str]:
    """Whether all comparisons pass, and the sentence that says why."""
    failed = [comparison for comparison in comparisons if not comparison.passed]
    if not failed:
        beaten = ", ".join(_named(one) for one in comparisons if one.tolerance is None)
        guards = "; no guard metric falls" if any(one.tolerance is not None for one in comparisons) else ""
        return True, f"beats {beaten}: {comparisons[0]}{guards}"
    kinds = [
        f"does not beat {_named(one)}, {one.shortfall}" if one.tolerance is None else "falls on a guard metric"
        for one in failed
    ]
    return False, "; ".join(f"{kind}: {one}" for kind, one in zip(kinds, failed, strict=True))


def _named(comparison: Comparison) -> str:
    return "the champion" if comparison.against == CHAMPION else f"baseline {comparison.against}"
