"""The tables `evaluate` and `register`: what is measured, and what makes a model champion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from overtone.settings.base import NonNegative, PositiveFloat, Settings


class EvaluateParams(Settings):
    """Stages `evaluate@...`. ViSQOL judges one clip of each source under the conditions `visqol`, where it is installed.

    `perceptual` adds PESQ and STOI for every clip of speech.
    """

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
    """Stage `register`. Metrics are dotted paths into `reports/<model>/metrics.json`: group.kind.metric.

    `promote`: `auto` makes a version that passes the gate champion, `never` leaves that to `overtone promote`, `clean-tree`
    does it only for a model that was trained without uncommitted changes, from a folder that has none now.

    `on_champion` is a command, as a list of arguments or as a line for the shell, that runs after each change of champion.
    """

    name: str
    metric: str
    better: Literal["lower", "higher"]
    margin: NonNegative = 0.0
    samples: Annotated[int, Field(ge=2)] = 2
    guards: tuple[Guard, ...] = ()
    promote: Literal["auto", "never", "clean-tree"] = "auto"
    on_champion: Annotated[tuple[str, ...], Field(min_length=1)] | str | None = None
    on_champion_seconds: PositiveFloat = 60.0
