"""The worker processes of a call: started, watched, replaced when one dies, ended together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import optuna
from optuna.trial import FrozenTrial, TrialState

from overtone.tuning import study as room
from overtone.tuning.plan import LAUNCHED, PLAN, Plan, TuningError
from overtone.tuning.worker import INTERRUPTED

POLL_SECONDS = 0.5
# A worker that was asked to end gets this long to fail its trial.
GRACE_SECONDS = 30.0


@dataclass
class Worker:
    """A worker process and the file that has what it said."""

    process: subprocess.Popen[bytes]
    log: Path

    def last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"


def work(plan: Plan, study: optuna.Study, told: Callable[[FrozenTrial], None], note: Callable[[str], None]) -> None:
    """Have `plan.goal` trials finished by `plan.workers` processes.

    A worker that dies is replaced and its trial failed and tried again. Ends the workers when interrupted.

    Args:
        told: gets each trial that finishes.
        note: gets a line on each worker that ended badly.

    Raises:
        TuningError: several workers in a row ended badly without finishing a trial.
    """
    crew: list[Worker] = []
    known: set[int] = set()
    bad = 0
    with _terminable():
        try:
            while len(known) < plan.goal:
                fresh = [trial for trial in room.of_call(study, plan.call) if trial.number not in known]
                for trial in fresh:
                    told(trial)
                    known.add(trial.number)
                bad = 0 if fresh else bad
                for worker in [one for one in crew if one.process.poll() is not None]:
                    crew.remove(worker)
                    bad += _bury(plan, study, worker, note)
                    if bad > plan.workers + 2:
                        raise TuningError(
                            f"study {plan.study}: {bad} workers in a row ended without finishing a trial; "
                            f"{worker.log} ends with: {worker.last_words()}"
                        )
                while len(crew) < plan.workers and len(crew) + len(known) < plan.goal:
                    crew.append(start(plan))
                if len(known) < plan.goal:
                    time.sleep(POLL_SECONDS)
            _join(crew)
        finally:
            stop(crew)
            room.reap(study, plan.params.tune.retries)
            for trial in room.of_call(study, plan.call, (TrialState.FAIL, *room.FINISHED)):
                shutil.rmtree(plan.folder / str(trial.number), ignore_errors=True)


def start(plan: Plan) -> Worker:
    """A worker process, in a group of its own with what it starts."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    log = plan.folder / f"worker-{time.time_ns()}.log"
    inherited = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "overtone.tuning.worker"],
            env=inherited | {PLAN: plan.text()},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Worker(process, log)


def stop(crew: list[Worker]) -> None:
    """Ask the workers to end, and end those that do not."""
    for worker in crew:
        if worker.process.poll() is None:
            worker.process.terminate()
    _join(crew)
    for worker in crew:
        _end_group(worker)
        worker.process.wait()


def _join(crew: list[Worker]) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in crew:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(deadline - time.monotonic(), 0.1))
            worker.log.unlink(missing_ok=True)


def _bury(plan: Plan, study: optuna.Study, worker: Worker, note: Callable[[str], None]) -> int:
    """Tidy up after a worker that ended; 1 if it ended badly."""
    _end_group(worker)
    for trial in room.reap(study, plan.params.tune.retries):
        note(f"trial {trial.number}: its worker is gone; failed")
    status = worker.process.returncode
    if status == 0:
        worker.log.unlink(missing_ok=True)
        return 0
    why = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    if status == INTERRUPTED:
        why = "was asked to end"
    said = "" if status < 0 or status == INTERRUPTED else f": {worker.last_words()} ({worker.log})"
    note(f"worker {worker.process.pid} {why}{said}")
    return 1


def _end_group(worker: Worker) -> None:
    """End what a worker started and left behind, such as the other processes of its training."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a call as Ctrl-C does."""

    def interrupt(*_: object) -> Never:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
