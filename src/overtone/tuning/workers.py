"""The processes of a call, one a trial: started, replaced when one dies, ended together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from overtone.tracking import processes
from overtone.tuning import study as studies
from overtone.tuning.plan import INTERRUPTED, LAUNCHED, PLAN, Plan, TuningError

POLL_SECONDS = 0.5
# A process that was asked to end gets this long to fail its trial.
GRACE_SECONDS = 30.0

Process = subprocess.Popen[bytes]


def run(plan: Plan, study: optuna.Study, on_trial: Callable[[FrozenTrial], None]) -> None:
    """Have `plan.goal` trials finished by `plan.workers` processes at a time. Ends the processes when interrupted.

    A line is printed for each process that ended badly.

    Args:
        on_trial: gets each trial that finishes.

    Raises:
        TuningError: several processes in a row ended badly without finishing a trial.
    """
    first_seed = plan.params.seed + len(study.get_trials(deepcopy=False))
    running: dict[Process, Path] = {}
    reported: set[int] = set()
    started = failures = 0
    try:
        while True:
            fresh = [trial for trial in studies.of_call(study, plan.call) if trial.number not in reported]
            for trial in fresh:
                on_trial(trial)
                reported.add(trial.number)
            failures = 0 if fresh else failures
            for process in [one for one in running if one.poll() is not None]:
                failures += _ended(plan, process, running.pop(process), failures)
            if len(reported) >= plan.goal:
                return _join(running)
            while len(running) < min(plan.workers, plan.goal - len(reported)):
                # Each process draws with a seed of its own.
                process, log = start(plan.model_copy(update={"seed": first_seed + started}))
                running[process] = log
                started += 1
            time.sleep(POLL_SECONDS)
    finally:
        _stop(running)
        for trial in studies.of_call(study, plan.call, (TrialState.FAIL, *studies.FINISHED)):
            shutil.rmtree(plan.folder / str(trial.number), ignore_errors=True)


def start(plan: Plan) -> tuple[Process, Path]:
    """A process, in a group of its own with what it starts, and the file that gets its output."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    log = plan.folder / f"worker-{time.time_ns()}.log"
    inherited = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "overtone.tuning.trial"],
            env=inherited | {PLAN: plan.text()},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, log


def _ended(plan: Plan, process: Process, log: Path, failures: int) -> int:
    """1 if a process ended badly.

    Raises:
        TuningError: too many of them did.
    """
    # What it started and left behind, such as the other processes of its training.
    processes.end(process)
    status = process.returncode
    if status == 0:
        log.unlink(missing_ok=True)
        return 0
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "it printed nothing"
    why = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    why = "was asked to end" if status == INTERRUPTED else why
    print(f"worker {process.pid} {why}: {last} ({log})", flush=True)
    if failures >= plan.workers + 2:
        raise TuningError(
            f"study {plan.study}: {failures + 1} workers in a row ended without finishing a trial; {log} ends with: {last}"
        )
    return 1


def _stop(running: dict[Process, Path]) -> None:
    """Ask processes to end, and end those that do not."""
    for process in running:
        process.terminate()
    _join(running)
    for process in running:
        processes.end(process)


def _join(running: dict[Process, Path]) -> None:
    """Wait for processes that are about to end."""
    deadline = time.monotonic() + GRACE_SECONDS
    for process, log in running.items():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.1))
            log.unlink(missing_ok=True)
