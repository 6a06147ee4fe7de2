"""A run over many files: plan, do what is not done, keep the manifest."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from overtone.data import cluster
from overtone.enhance import batch, places, processes, single
from overtone.enhance.batch import Step, Task
from overtone.enhance.manifest import Manifest, Record, alone
from overtone.enhance.single import Job, Outcome, Recipe

# In the output folder: targets that are not whole yet.
_WORKSHOP = ".enhancing"


class Watcher(Protocol):
    """Who is told how a run goes on."""

    def begin(self, tasks: Sequence[Task]) -> None: ...

    def progress(self, index: int, share: float, seconds: float) -> None: ...

    def end(self, index: int, outcome: Outcome) -> None: ...


@dataclass
class Summary:
    """What came of a run: numbers of files, seconds of audio and of time, the errors of those that failed, notes on others.

    `accounts` say for each file that was enhanced what was done and why.
    """

    done: int = 0
    skipped: int = 0
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    seconds: float = 0.0
    took: float = 0.0


def plan(tasks: Sequence[Task], folder: str, recipe: Recipe, force: bool) -> list[Step]:
    """What a run would do about each task."""
    return batch.steps(tasks, folder, Manifest(folder), recipe.digest, force)


def run(
    tasks: Sequence[Task],
    folder: str,
    recipe: Recipe,
    watcher: Watcher,
    *,
    force: bool = False,
    jobs: int | None = None,
    ray: str | None = None,
) -> Summary:
    """Enhance what the output folder's manifest does not call done; a file that fails stops none of the others.

    Args:
        jobs: processes; None for one a core, or one where another device computes.
        ray: address of a cluster that does it (`overtone.data.cluster`), None for this machine's own processes.

    Raises:
        OvertoneError: an unusable model or device, another run at work in the folder, no such cluster.
    """
    began, workshop = time.monotonic(), None if places.is_address(folder) else Path(folder, _WORKSHOP).resolve()
    with alone(folder):
        ledger = Manifest(folder)
        steps = batch.steps(tasks, folder, ledger, recipe.digest, force)
        summary = Summary(skipped=sum(step.state == "done" for step in steps))
        summary.errors = [
            f"{step.task.target}: exists already; give --force to overwrite it"
            for step in steps
            if step.state == "refused"
        ]
        wanted = [step for step in steps if step.wanted]
        if wanted:
            # Found out once, not file by file; on a cluster the device is that of its machines.
            single.upsampler(replace(recipe, device="cpu") if ray else recipe)
            with closing(ledger), _emptied(workshop):
                _do(Job(recipe, workshop), wanted, ledger, watcher, summary, jobs, ray)
    summary.took = time.monotonic() - began
    return summary


def _do(
    job: Job,
    steps: Sequence[Step],
    ledger: Manifest,
    watcher: Watcher,
    summary: Summary,
    jobs: int | None,
    ray: str | None,
) -> None:
    tasks = [step.task for step in steps]
    ledger.add(_record(job, step, "planned") for step in steps)
    ledger.flush()
    watcher.begin(tasks)
    with closing(_outcomes(job, tasks, watcher, jobs, ray)) as outcomes:
        for index, outcome in outcomes:
            step = steps[index]
            if outcome.error:
                before = step.before.target_stamp if step.before else ""
                ledger.add([_record(job, step, "failed", error=outcome.error, target_stamp=before)])
                summary.errors.append(outcome.error)
            else:
                facts = {"sha256": outcome.sha256, "target_stamp": outcome.target_stamp}
                told = {"done": outcome.done, "seconds": round(outcome.seconds, 3)}
                ledger.add([_record(job, step, "done", **told, **facts)])
                summary.notes += outcome.notes
                summary.accounts.append(f"{step.task.target}: {outcome.done}")
                summary.done += 1
                summary.seconds += outcome.seconds
            watcher.end(index, outcome)


def _outcomes(
    job: Job, tasks: Sequence[Task], watcher: Watcher, jobs: int | None, ray: str | None
) -> Generator[tuple[int, Outcome], None, None]:
    if ray is None:
        default = (os.cpu_count() or 1) if job.recipe.device == "cpu" else 1
        yield from processes.outcomes(job, tasks, min(jobs or default, len(tasks)), watcher.progress)
        return
    absolute = [_absolute(task) for task in tasks]
    gpus = int(job.recipe.device.startswith("cuda"))
    with closing(cluster.results(single.attempt, job, absolute, ray, jobs, gpus)) as results:
        for index, outcome in results:
            died = f"{tasks[index].source}: the process at work on it died; out of memory?"
            yield index, outcome or Outcome(error=died)


def _absolute(task: Task) -> Task:
    """With paths that mean the same in every process."""
    source, target = (
        place if places.is_address(place) else str(Path(place).resolve()) for place in (task.source, task.target)
    )
    return replace(task, source=source, target=target)


def _record(job: Job, step: Step, state: Any, **facts: Any) -> Record:
    task = step.task
    return Record(task.name, task.source, state, task.entry.stamp, job.recipe.digest, **facts)


@contextmanager
def _emptied(workshop: Path | None) -> Iterator[None]:
    """A folder without what a killed run left in it, and gone in the end."""
    if workshop is None:
        yield
        return
    shutil.rmtree(workshop, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
