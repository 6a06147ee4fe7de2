"""One trial: settings are drawn, a network is trained with them, and what it came to is the trial's value."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from overtone.losses import DivergedError
from overtone.params import Params, ParamsError, changed
from overtone.tracking.studies import TrialRun, beneath
from overtone.training import fit
from overtone.tuning import space
from overtone.tuning.plan import DRAWN, Plan
from overtone.tuning.pruning import Judge, Pruning
from overtone.upsample import Upsampler

# The real-time factor is that of this much audio, mono, at this rate; the best of so many runs.
SPEED_SECONDS = 10
SPEED_RATE = 16_000
SPEED_RUNS = 3


def run(plan: Plan, trial: optuna.Trial) -> float | tuple[float, ...]:
    """Train with the settings that a trial draws.

    Returns:
        The validation LSD of the best epoch; with a second objective, the real-time factor too.

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
    # What other processes of this training take as drawn.
    os.environ[DRAWN] = json.dumps({"number": trial.number, "drawn": drawn})
    watch = Pruning(_steps(params, plan), _judge(trial) if len(plan.objectives) == 1 else None)
    try:
        with beneath(plan.parent), TrialRun(plan.kind, params, plan.study, trial.number) as record:
            trial.set_user_attr("run_id", record.run_id)
            try:
                outcome = _train(plan, params, folder, record.logger() or False, watch)
            except DivergedError as error:
                trial.set_user_attr("reason", str(error))
                record.conclude("pruned", {})
                raise optuna.TrialPruned(str(error)) from None
            values = {"quality": outcome.best}
            if not watch.pruned and "speed" in plan.objectives:
                values["speed"] = real_time_factor(folder / "model")
            record.conclude("pruned" if watch.pruned else "complete", values)
    except SystemExit as error:  # Lightning's word for an interruption
        raise KeyboardInterrupt from error
    finally:
        del os.environ[DRAWN]
        shutil.rmtree(folder, ignore_errors=True)
    if watch.pruned:
        raise optuna.TrialPruned
    return tuple(values.values()) if len(values) > 1 else outcome.best


def follow(plan: Plan) -> None:
    """Another process of a trial's training: the settings are those that the first one drew."""
    given = json.loads(os.environ[DRAWN])
    params = changed(plan.params, given["drawn"])
    _train(plan, params, plan.folder / str(given["number"]), False, Pruning(_steps(params, plan), None))


def real_time_factor(model: Path) -> float:
    """Seconds of audio that a model folder's network enhances in a second, on one thread of this machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        upsampler = Upsampler.load(model, runtime="torch")
        noise = np.random.default_rng(0).standard_normal((1, SPEED_SECONDS * SPEED_RATE))
        signal = (0.1 * noise).astype(np.float32)
        upsampler.enhance(signal[:, :SPEED_RATE], SPEED_RATE, mode="extend")
        taken = []
        for _ in range(SPEED_RUNS):
            start = time.perf_counter()
            upsampler.enhance(signal, SPEED_RATE, mode="extend")
            taken.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return SPEED_SECONDS / min(taken)


def _train(plan: Plan, params: Params, folder: Path, logger: Any, watch: Pruning) -> fit.Outcome:
    return fit.train(params, plan.kind, plan.pairs, folder / "model", folder / "checkpoints", logger, (watch,))


def _steps(params: Params, plan: Plan) -> int:
    return (params.train.cnn if plan.kind == "cnn" else params.train.rnn).steps


def _judge(trial: optuna.Trial) -> Judge:
    def judge(epoch: int, distance: float) -> bool:
        trial.report(distance, epoch)
        return trial.should_prune()

    return judge
