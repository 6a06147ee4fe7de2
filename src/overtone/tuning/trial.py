"""One trial: settings are drawn, a network is trained with them, and what it came to is the trial's value.

`python -m overtone.tuning.trial` is a process of a search, which runs one trial of the plan that the environment holds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Never

import optuna
import torch

from overtone.audio import replacing
from overtone.dsp import stft
from overtone.models.envelope import PROFILE
from overtone.models.model import Model
from overtone.settings import Params, ParamsError, changed
from overtone.tracking.studies import TrialRun, beneath
from overtone.training import fit, launch
from overtone.training.failure import DivergedError
from overtone.training.tasks import TASKS
from overtone.tuning import space
from overtone.tuning import study as studies
from overtone.tuning.plan import DRAWN, INTERRUPTED, PLAN, Plan, inherited
from overtone.tuning.pruning import Judge, Pruning

# The real-time factor is that of this much audio, mono; the best of so many runs.
SPEED_SECONDS = 10
SPEED_RUNS = 3
# What the processes of a training on several leave for the trial's own.
RESULT = "result.json"


def run(plan: Plan, trial: optuna.Trial) -> float | tuple[float, ...]:
    """Train with the settings that a trial draws.

    Returns:
        The quality of the best epoch, lower is better: `extend`'s validation LSD, or the negative gain of `restore` in dB;
        with a second objective, the real-time factor too.

    Raises:
        TrialPruned: the trial is worse than the median of the others, diverged, or drew settings that do not go together.
        KeyboardInterrupt: the process was asked to end.
    """
    drawn = space.draw(trial, plan.space, space.present(plan.params, plan.space))
    try:
        params = changed(plan.params, drawn)
    except ParamsError as error:
        trial.set_user_attr("reason", str(error))
        raise optuna.TrialPruned(str(error)) from None
    folder = plan.folder / str(trial.number)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with beneath(plan.parent), TrialRun(plan.kind, params, plan.study, trial.number) as record:
            trial.set_user_attr("run_id", record.run_id)
            try:
                best, pruned = _trained(plan, params, trial, drawn, record)
            except DivergedError as error:
                # Not where the batch lies: a trial's folder goes with it.
                trial.set_user_attr("reason", error.reason)
                record.conclude("pruned", {})
                raise optuna.TrialPruned(error.reason) from None
            values = {"quality": best}
            if not pruned and "speed" in plan.objectives:
                values["speed"] = real_time_factor(folder / "model", plan.task)
            record.conclude("pruned" if pruned else "complete", values)
    except SystemExit as error:  # what Lightning makes of an interruption
        raise KeyboardInterrupt from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if pruned:
        raise optuna.TrialPruned
    return tuple(values.values()) if len(values) > 1 else best


def _trained(
    plan: Plan, params: Params, trial: optuna.Trial, drawn: Mapping[str, Any], record: TrialRun
) -> tuple[float, bool]:
    """The quality of a trial's training, and whether it was pruned; on as many processes as the settings say."""
    processes = launch.wanted(params.train.fit)
    if processes == 1:
        return _alone(plan, params, trial.number, record.logger(), _judge(trial) if _judged(plan) else None)
    launch.check(params.train, processes)
    # What the processes take as drawn; the first of them asks on behalf of this trial.
    given = {"number": trial.number, "id": trial._trial_id, "drawn": drawn, "run_id": record.run_id}
    result = plan.folder / str(trial.number) / RESULT
    try:
        launch.launch("overtone.tuning.trial", (), processes, {PLAN: plan.text(), DRAWN: json.dumps(given)})
    except launch.LaunchError:
        if result.is_file() and "diverged" in (found := json.loads(result.read_text())):
            raise DivergedError(found["diverged"]) from None
        raise
    found = json.loads(result.read_text())
    return found["best"], found["pruned"]


def follow(plan: Plan) -> None:
    """One process of a trial's training on several: the settings are those that the trial's own process drew."""
    from overtone.tracking import runs

    given = json.loads(os.environ[DRAWN])
    params = changed(plan.params, given["drawn"])
    result = plan.folder / str(given["number"]) / RESULT
    leads = os.environ["RANK"] == "0"
    logger = runs.logger_of(given["run_id"]) if leads else False
    judge = _judge(optuna.Trial(studies.join_study(plan), given["id"])) if leads and _judged(plan) else None
    try:
        best, pruned = _alone(plan, params, given["number"], logger, judge)
    except DivergedError as error:
        with replacing(result) as path:
            path.write_text(json.dumps({"diverged": error.reason}))
        raise
    if leads:
        with replacing(result) as path:
            path.write_text(json.dumps({"best": best, "pruned": pruned}))


def real_time_factor(folder: Path, task: str) -> float:
    """Seconds of audio whose frames one of a model's networks computes in a second, on one thread of this machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = Model.load(folder)
        network = model.networks[task]
        frames = SPEED_SECONDS * model.rate // stft.HOP
        inputs = [torch.randn(1, frames, network.stem.in_features)]
        if task == "extend":
            inputs.append(torch.zeros(1, PROFILE))
        taken = []
        with torch.inference_mode():
            for _ in range(SPEED_RUNS + 1):
                start = time.perf_counter()
                network(*inputs, network.body.initial(1))
                taken.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    # The first run warms up.
    return SPEED_SECONDS / min(taken[1:])


def _alone(plan: Plan, params: Params, number: int, logger: Any, judge: Judge | None) -> tuple[float, bool]:
    """This process's part of a trial's training."""
    folder = plan.folder / str(number)
    task = TASKS[plan.task]
    sign = 1.0 if task.mode == "min" else -1.0
    steps = getattr(params.train, plan.task).steps
    watch = Pruning(steps, judge, lambda metrics: sign * float(metrics[task.monitor]))
    start = Path(params.train.fit.start) if params.train.fit.start is not None else None
    model, kept = folder / "model", folder / "checkpoints"
    (outcome,) = fit.train(params, plan.kind, plan.source, model, kept, logger, (watch,), start, (plan.task,))
    return sign * outcome.best, watch.pruned


def _judged(plan: Plan) -> bool:
    """Whether trials are pruned: Optuna cannot with several objectives."""
    return len(plan.objectives) == 1


def _judge(trial: optuna.Trial) -> Judge:
    def judge(epoch: int, distance: float) -> bool:
        trial.report(distance, epoch)
        return trial.should_prune()

    return judge


# --- a process of a search -----------------------------------------------------------------------------------------------


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
        return run(plan, trial)

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
        follow(plan)
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        work(plan)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
