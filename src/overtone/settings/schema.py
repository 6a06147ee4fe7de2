"""All of `params.yaml` as one type, and the checks across its tables."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from overtone.settings import keys
from overtone.settings.base import Settings
from overtone.settings.corpus import CorpusParams
from overtone.settings.degradations import DegradeParams
from overtone.settings.evaluation import EvaluateParams, RegisterParams
from overtone.settings.training import FAMILIES, TrainParams
from overtone.settings.tuning import Choice, Dimension, TuneParams, WholeRange


class Params(Settings):
    """All of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    corpus: CorpusParams
    degrade: DegradeParams
    train: TrainParams
    evaluate: EvaluateParams
    register_: RegisterParams = Field(alias="register")
    tune: TuneParams

    @model_validator(mode="after")
    def _check(self) -> Params:
        for family in FAMILIES:
            for key, dimension in self.tune.space[family].items():
                try:
                    self._check_dimension(family, key, dimension)
                except ValueError as error:
                    raise ValueError(f"tune.space.{family}.{key}: {error}") from None
        return self

    def _check_dimension(self, family: str, key: str, dimension: Dimension) -> None:
        tables = (f"train.{family}.", "train.extend.", "train.restore.", "train.fit.")
        if not key.startswith(tables):
            raise ValueError(f"expected a setting of {', '.join(table[:-1] for table in tables)}")
        if key in ("train.extend.steps", "train.restore.steps", "train.fit.epoch_steps"):
            raise ValueError("the length of a trial is tune.steps and tune.epoch_steps, and not searched")
        for value in _samples(dimension):
            tree = {"train": self.train.model_dump(mode="json")}
            keys.put(tree, key, value)
            try:
                TrainParams.model_validate(tree["train"])
            except ValidationError as error:
                # What does not go together may go with another trial's values.
                own = [e["msg"] for e in error.errors() if ".".join(map(str, ("train", *e["loc"]))).startswith(key)]
                if own:
                    raise ValueError(f"{value} is no value of this setting: {own[0]}") from None


def _samples(dimension: Dimension) -> list[Any]:
    """Values of a dimension that show whether all are allowed: its ends and those next to them, or every choice."""
    if isinstance(dimension, Choice):
        return list(dimension.choices)
    if isinstance(dimension, WholeRange):
        return sorted({dimension.low, min(dimension.low + dimension.step, dimension.high), dimension.high})
    return [dimension.low, dimension.high]
