"""The promotion gate: whether a candidate's scores earn it the champion's place. Pure functions of the figures."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from overtone.registry import scores
from overtone.registry.scores import Gain, Scored
from overtone.registry.versions import RegistryError
from overtone.settings import Guard, RegisterParams
from overtone.tracking import entries

CHAMPION = "champion"


@dataclass(frozen=True)
class Comparison:
    """One metric of a candidate and of what it has to beat.

    Attributes:
        against: the champion or a baseline.
        gain: of the main metric, the evidence; None for a guard. Guards go by the means alone: a bound would either let
            any fall pass on few sources, or block any model on them.
        tolerance: how much worse a guard may be; None for the main metric.
        fault: what keeps it from passing; empty where it passes.
    """

    metric: str
    better: Literal["lower", "higher"]
    candidate: float
    champion: float
    fault: str
    against: str = CHAMPION
    tolerance: float | None = None
    gain: Gain | None = None

    @property
    def passed(self) -> bool:
        return not self.fault

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
        if scored.value(path) is None:
            setting = "register.metric" if place == 0 else "register.guards"
            known = [name for name, _ in entries.leaves(scored.metrics)]
            near = difflib.get_close_matches(path, known, n=3, cutoff=0.4)
            raise RegistryError(
                f"{setting}: {who} has no finite {path!r}; expected a dotted path of its metrics.json"
                + (f", such as {', '.join(near)}" if near else "")
            )


def compare(candidate: Scored, champion: Scored, params: RegisterParams) -> tuple[Comparison, ...]:
    """Main metric and guards of two models scored by the same code on the same test set.

    Raises:
        RegistryError: one of the two lacks a metric.
    """
    require(candidate, params, "the candidate")
    require(champion, params, "the champion")
    guards = (_guard(candidate, champion, guard) for guard in params.guards)
    return (_main(candidate, champion, params, params.margin, CHAMPION), *guards)


def compare_baselines(
    candidate: Scored, baselines: Mapping[str, Scored], params: RegisterParams
) -> tuple[Comparison, ...]:
    """The main metric of a candidate and of each baseline: what a first champion must beat, by however little.

    Raises:
        RegistryError: one of them lacks the metric, or is scored on another test set.
    """
    unguarded = params.model_copy(update={"guards": ()})
    for name, one in baselines.items():
        require(one, unguarded, f"baseline {name}")
        if one.key != candidate.key:
            raise RegistryError(f"baseline {name}: scored on another test set than the candidate; run dvc repro")
    return tuple(_main(candidate, one, params, 0.0, f"baseline {name}") for name, one in baselines.items())


def _main(candidate: Scored, other: Scored, params: RegisterParams, margin: float, against: str) -> Comparison:
    path = params.metric
    gain = scores.gain(other, candidate, path, params.better)
    if gain is None:
        fault = "no scores by clip to compare"
    elif gain.sources < params.samples:
        fault = f"only {gain.sources} test sources, {params.samples} needed"
    else:
        # Not the other way round: a bound that is not a number is no gain.
        fault = "" if gain.lower > margin else f"gain not surely above {margin:g}"
    fault = fault and f"does not beat {_named(against)}, {fault}"
    return Comparison(path, params.better, candidate[path], other[path], fault, against, gain=gain)


def _guard(candidate: Scored, champion: Scored, guard: Guard) -> Comparison:
    ours, theirs = candidate[guard.metric], champion[guard.metric]
    gain = theirs - ours if guard.better == "lower" else ours - theirs
    fault = "" if gain >= -guard.tolerance else "falls on a guard metric"
    return Comparison(guard.metric, guard.better, ours, theirs, fault, tolerance=guard.tolerance)


def verdict(comparisons: Sequence[Comparison]) -> tuple[bool, str]:
    """Whether all comparisons pass, and the sentence that says why."""
    if failed := [one for one in comparisons if not one.passed]:
        return False, "; ".join(f"{one.fault}: {one}" for one in failed)
    beaten = ", ".join(_named(one.against) for one in comparisons if one.tolerance is None)
    guards = "; no guard metric falls" if any(one.tolerance is not None for one in comparisons) else ""
    return True, f"beats {beaten}: {comparisons[0]}{guards}"


def _named(against: str) -> str:
    return "the champion" if against == CHAMPION else against
