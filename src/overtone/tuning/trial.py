"""One trial: settings are drawn, a network is trained with them, and what it came to is the trial's value."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import optuna
import torch

from overtone.dsp import stft
from overtone.models.envelope import PROFILE
from overtone.models.model import Model
from overtone.settings import Params, ParamsError, changed
from overtone.tracking.studies import TrialRun
from overtone.training import fit
from overtone.training.failure import DivergedError
from overtone.training.tasks import TASKS
from overtone.tuning import space
from overtone.tuning.plan import Plan
from overtone.tuning.pruning import Pruning

# The real-time factor is that of this much audio, mono; the best of so many runs.
SPEED_SECONDS = 10
SPEED_RUNS = 3


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
        with TrialRun(plan.kind, params, plan.study, trial.number, plan.parent) as record:
            trial.set_user_attr("run_id", record.run_id)
            try:
                values, pruned = _trained(plan, params, trial, folder, record)
            except DivergedError as error:
                # Not where the batch lies: a trial's folder goes with it.
                trial.set_user_attr("reason", error.reason)
                record.conclude("pruned", {})
                raise optuna.TrialPruned(error.reason) from None
            record.conclude("pruned" if pruned else "complete", dict(zip(plan.objectives, values, strict=False)))
    except SystemExit as error:  # what Lightning makes of an interruption
        raise KeyboardInterrupt from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if pruned:
        raise optuna.TrialPruned
    return values if len(values) > 1 else values[0]


def _trained(
    plan: Plan, params: Params, trial: optuna.Trial, folder: Path, record: TrialRun
) -> tuple[tuple[float, ...], bool]:
    """The objectives of a trial's training as far as it got, and whether it was pruned."""
    task = TASKS[plan.task]
    sign = 1.0 if task.mode == "min" else -1.0
    steps = getattr(params.train, plan.task).steps
    watch = Pruning(trial, steps, lambda metrics: sign * float(metrics[task.monitor]))
    # Optuna cannot prune with several objectives.
    callbacks = (watch,) if len(plan.objectives) == 1 else ()
    start = Path(params.train.fit.start) if params.train.fit.start is not None else None
    model, kept = folder / "model", folder / "checkpoints"
    (outcome,) = fit.train(params, plan.kind, plan.source, model, kept, record.logger(), callbacks, start, (plan.task,))
    best = sign * outcome.best
    return (best, real_time_factor(model, plan.task)) if "speed" in plan.objectives else (best,), watch.pruned


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
