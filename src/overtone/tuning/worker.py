"""The processes of a call, one a trial: started, replaced when one dies, ended together."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Never

import optuna
from optuna.trial import FrozenTrial, TrialState

from overtone.tuning import study as studies
from overtone.tuning import trial as trials
from overtone.tuning.plan import Plan, TuningError

# A process that was asked to end gets this long to fail its trial.
GRACE_SECONDS = 30.0


def run(plan: Plan, study: optuna.Study, on_trial: Callable[[FrozenTrial], None]) -> None:
    """Have `plan.goal` trials finished by `plan.workers` processes at a time. Ends the processes when interrupted.

    A line is printed for each process that ended badly.

    Args:
        on_trial: gets each trial that finishes.

    Raises:
        TuningError: several processes in a row ended badly without finishing a trial.
    """
    seed = plan.params.seed + len(study.get_trials(deepcopy=False))
    running: dict[BaseProcess, Path] = {}
    reported: set[int] = set()
    failures = 0
    try:
        while running or len(reported) < plan.goal:
            while len(running) < min(plan.workers, plan.goal - len(reported)):
                # Each process draws with a seed of its own.
                process, log = start(plan, seed)
                running[process] = log
                seed += 1
            wait([process.sentinel for process in running])
            for trial in studies.of_call(study, plan.call):
                if trial.number not in reported:
                    on_trial(trial)
                    reported.add(trial.number)
                    failures = 0
            for process in [one for one in running if not one.is_alive()]:
                failures += _ended(plan, process, running.pop(process), failures)
    finally:
        _stop(list(running))
        for trial in studies.of_call(study, plan.call, (TrialState.FAIL, *studies.FINISHED)):
            shutil.rmtree(plan.folder / str(trial.number), ignore_errors=True)


def start(plan: Plan, seed: int) -> tuple[BaseProcess, Path]:
    """A process that runs one trial, and the file that gets its output."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    log = plan.folder / f"worker-{time.time_ns()}.log"
    process = multiprocessing.get_context("spawn").Process(
        target=_main, args=(plan.model_dump_json(by_alias=True), seed, log)
    )
    process.start()
    return process, log


def work(plan: Plan, seed: int) -> None:
    """Run one trial; one that is interrupted will be tried again.

    Args:
        seed: of the sampler.

    Raises:
        KeyboardInterrupt: the process was asked to end.
    """
    study = studies.join_study(plan, seed)
    drawn: list[int] = []

    def objective(trial: optuna.Trial) -> float | tuple[float, ...]:
        drawn.append(trial.number)
        trial.set_user_attr("call", plan.call)
        return trials.run(plan, trial)

    try:
        study.optimize(objective, n_trials=1)
    except KeyboardInterrupt:
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if trial.number in drawn:
                studies.retry(study, trial, plan)
        raise


def _main(plan: str, seed: int, log: Path) -> None:
    # Ctrl-C is for the command, which asks its processes to end.
    os.setsid()
    with log.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    signal.signal(signal.SIGTERM, _interrupt)
    work(Plan.model_validate_json(plan), seed)


def _interrupt(*_: object) -> Never:
    raise KeyboardInterrupt


def _ended(plan: Plan, process: BaseProcess, log: Path, failures: int) -> int:
    """1 if a process ended badly.

    Raises:
        TuningError: too many of them did.
    """
    process.join()
    status = process.exitcode or 0
    if status == 0:
        log.unlink(missing_ok=True)
        return 0
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    last = lines[-1].strip() if lines else "it printed nothing"
    why = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    print(f"worker {process.pid} {why}: {last} ({log})", flush=True)
    if failures >= plan.workers + 2:
        raise TuningError(
            f"study {plan.study}: {failures + 1} workers in a row ended without finishing a trial; {log} ends with: {last}"
        )
    return 1


def _stop(running: list[BaseProcess]) -> None:
    """Ask processes to end, and end those that do not."""
    for process in running:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in running:
        process.join(max(deadline - time.monotonic(), 0.1))
        process.kill()
        process.join()
