"""The search space: settings of `params.yaml` as Optuna's distributions, and what a trial drew as settings."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from optuna.trial import BaseTrial, FixedTrial

from overtone.settings import Choice, Dimension, Params, RealRange, WholeRange, flatten
from overtone.tuning.plan import TuningError

Space = Mapping[str, Dimension]
# Significant digits of a number that is drawn: what params.yaml gets is what was trained with.
DIGITS = 4


def draw(trial: BaseTrial, space: Space, present: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's settings, drawn by the sampler or as they were enqueued; lists are drawn as JSON, since Optuna stores none."""
    for key, dimension in space.items():
        if isinstance(dimension, WholeRange):
            trial.suggest_int(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
        elif isinstance(dimension, RealRange):
            trial.suggest_float(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
        else:
            trial.suggest_categorical(key, [_stored(choice) for choice in dimension.choices])
    return settings(trial.params, space, present)


def settings(drawn: Mapping[str, Any], space: Space, present: Mapping[str, Any]) -> dict[str, Any]:
    """What Optuna stores of a trial, as settings; numbers rounded, but for one that is the present setting exactly."""
    return {key: _setting(drawn[key], space[key], present[key]) for key in space if key in drawn}


def present(params: Params, space: Space) -> dict[str, Any]:
    """The settings that are searched, as they are now.

    Raises:
        TuningError: one lies outside the space.
    """
    flat = flatten(params)
    values = {key: flat[key] for key in space}
    for key, value in values.items():
        try:
            # Optuna's own check of values that somebody gives; it only warns of numbers.
            with warnings.catch_warnings(action="error"):
                draw(FixedTrial(enqueued({key: value})), {key: space[key]}, values)
        except (ValueError, UserWarning):
            raise TuningError(
                f"tune.space: {key}: expected the present value, {value}, to lie in the space; "
                "widen the space or change the setting"
            ) from None
    return values


def enqueued(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as Optuna stores them."""
    return {key: _stored(value) for key, value in values.items()}


def _stored(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple) else value


def _setting(drawn: Any, dimension: Dimension, present: Any) -> Any:
    if isinstance(dimension, Choice):
        chosen = next((choice for choice in dimension.choices if _stored(choice) == drawn), drawn)
        return list(chosen) if isinstance(chosen, tuple) else chosen
    if drawn == present or isinstance(dimension, WholeRange):
        return type(present)(drawn) if drawn == present else drawn
    return float(f"{drawn:.{DIGITS}g}")
