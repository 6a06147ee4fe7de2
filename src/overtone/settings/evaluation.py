"""The tables `evaluate` and `register`: what is measured, and what makes a model champion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from overtone.settings.base import NonNegative, PositiveFloat, Settings


class EvaluateParams(Settings):
    """Stages `evaluate@...`: what is computed of each clip."""

    baselines: tuple[Literal["sinc", "sbr", "concealer", "wiener"], ...]
    figures: Annotated[int, Field(ge=0)]
    visqol: tuple[str, ...]
    perceptual: bool


class Guard(Settings):
    """A metric on which a new champion may not be worse than the old one by more than `tolerance`."""

    metric: str
    better: Literal["lower", "higher"]
    tolerance: NonNegative


class RegisterParams(Settings):
    """Stage `register`: the gate. A metric is a path group.kind.metric into `reports/<model>/metrics.json`."""

    name: str
    metric: str
    better: Literal["lower", "higher"]
    margin: NonNegative = 0.0
    samples: Annotated[int, Field(ge=2)] = 2
    guards: tuple[Guard, ...] = ()
    promote: Literal["auto", "never", "clean-tree"] = "auto"
    on_champion: Annotated[tuple[str, ...], Field(min_length=1)] | str | None = None
    on_champion_seconds: PositiveFloat = 60.0
