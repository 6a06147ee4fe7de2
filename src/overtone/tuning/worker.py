"""A process of a search: `python -m overtone.tuning.worker` runs one trial of the plan that the environment holds."""

from __future__ import annotations

import os
import signal
from typing import Never

import optuna

from overtone.tuning import study as studies
from overtone.tuning import trial as trials
from overtone.tuning.plan import DRAWN, Plan, inherited

INTERRUPTED = 130


def work(plan: Plan) -> None:
    """Run one trial; one that is interrupted will be tried again.

    Raises:
        KeyboardInterrupt: the process was asked to end.
    """
    study = studies.join_study(plan)
    numbers: list[int] = []

    def objective(trial: optuna.Trial) -> float | tuple[float, ...]:
        numbers.append(trial.number)
        trial.set_user_attr("call", plan.call)
        return trials.run(plan, trial)

    try:
        study.optimize(objective, n_trials=1)
    except KeyboardInterrupt:
        if numbers:
            studies.retry(study, study.get_trials(deepcopy=False)[numbers[0]], plan)
        raise


def _interrupt(*_: object) -> Never:
    raise KeyboardInterrupt


def main() -> None:
    """Run a trial; in another process of a trial's training, take part in that."""
    plan = inherited()
    if DRAWN in os.environ:
        trials.follow(plan)
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        work(plan)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
