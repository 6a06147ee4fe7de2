"""A worker process: `python -m overtone.tuning.worker`, one trial after another until its call has what it asked for."""

from __future__ import annotations

import os
import signal
from typing import Never

import optuna
from optuna.trial import TrialState

from overtone.tuning import study as room
from overtone.tuning.plan import DRAWN, Plan, inherited

INTERRUPTED = 130
_TAKEN = (TrialState.RUNNING, *room.FINISHED)


def work(plan: Plan) -> None:
    """Take trials of the plan's study until its call has as many finished or under way as it asked for.

    Ends after the present trial when the process that started this one is gone.
    """
    from overtone.tuning import trial as one

    study = room.join_study(plan)
    claim = room.lock(plan, "claim")
    parent = os.getppid()
    retries = plan.params.tune.retries

    def objective(trial: optuna.Trial) -> float | tuple[float, ...]:
        room.sign(trial, plan.call)
        claim.release()
        return one.run(plan, trial)

    while os.getppid() == parent:
        claim.acquire()
        try:
            room.reap(study, retries)
            if len(room.of_call(study, plan.call, _TAKEN)) >= plan.goal:
                return
            room.seed(study, plan)
            study.optimize(objective, n_trials=1)
        except KeyboardInterrupt:
            mine = [trial for trial in room.of_call(study, plan.call, (TrialState.FAIL,)) if _is_mine(trial)]
            if mine:
                room.again(study, mine[-1], retries)
            raise
        finally:
            if claim.is_locked:
                claim.release()


def _is_mine(trial: optuna.trial.FrozenTrial) -> bool:
    return bool(trial.user_attrs["worker"]["pid"] == os.getpid())


def _interrupt(*_: object) -> Never:
    raise KeyboardInterrupt


def main() -> None:
    """Work on the plan that the environment holds; in another process of a trial's training, take part in that."""
    plan = inherited()
    if DRAWN in os.environ:
        from overtone.tuning import trial as one

        one.follow(plan)
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        work(plan)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
