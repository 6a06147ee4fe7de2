"""The table `tune`: the search for better settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from overtone.settings.base import PositiveFloat, PositiveInt, Settings
from overtone.settings.training import FAMILIES

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]


class WholeRange(Settings):
    """Whole numbers from `low` to `high`, every `step`; `log` draws evenly over their logarithm."""

    type: Literal["int"]
    low: int
    high: int
    step: PositiveInt = 1
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> WholeRange:
        if self.high < self.low or (self.high - self.low) % self.step:
            raise ValueError("high must be low plus a whole number of steps")
        if self.log and (self.low < 1 or self.step != 1):
            raise ValueError("log needs low from 1 and step 1")
        return self


class RealRange(Settings):
    """Numbers from `low` to `high`, every `step` if one is given; `log` draws evenly over their logarithm."""

    type: Literal["float"]
    low: float
    high: float
    step: PositiveFloat | None = None
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> RealRange:
        if self.high < self.low:
            raise ValueError("high must be at least low")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0 and no step")
        return self


class Choice(Settings):
    """One of `choices`: numbers, texts, truth values or lists of them."""

    type: Literal["categorical"]
    choices: Annotated[tuple[Value, ...], Field(min_length=1)]


Dimension = Annotated[WholeRange | RealRange | Choice, Field(discriminator="type")]


class TuneParams(Settings):
    """`overtone tune`: the search for better settings. `space` has, by family, keys of `train` and their possible values."""

    study: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    task: Literal["extend", "restore"]
    storage: str
    trials: Annotated[int, Field(ge=0)]
    workers: PositiveInt
    steps: PositiveInt
    epoch_steps: PositiveInt
    objectives: Annotated[tuple[Literal["quality", "speed"], ...], Field(min_length=1)]
    random_trials: Annotated[int, Field(ge=0)]
    prune_after_trials: Annotated[int, Field(ge=0)]
    prune_after_epochs: Annotated[int, Field(ge=0)]
    retries: Annotated[int, Field(ge=0)]
    heartbeat: PositiveInt
    space: dict[str, dict[str, Dimension]]

    @model_validator(mode="after")
    def _check(self) -> TuneParams:
        for family in FAMILIES:
            if family not in self.space:
                raise ValueError(f"space: {family}: missing; expected a table of settings, which may be empty")
        if unknown := self.space.keys() - set(FAMILIES):
            raise ValueError(f"space: {min(unknown)}: no such family; expected {', '.join(FAMILIES)}")
        if self.objectives not in (("quality",), ("quality", "speed")):
            raise ValueError("objectives must be [quality] or [quality, speed]")
        return self
