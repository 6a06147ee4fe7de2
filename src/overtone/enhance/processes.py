"""Tasks on this machine: in this process, or on several that end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from overtone.enhance import single
from overtone.enhance.batch import Task
from overtone.enhance.single import Job, Outcome

# Position of the task, share of it that is done, its length in seconds.
Progress = Callable[[int, float, float], None]
_POLL_SECONDS = 0.1

_shared: tuple[Job, Any] | None = None


def outcomes(job: Job, tasks: Sequence[Task], jobs: int, progress: Progress) -> Iterator[tuple[int, Outcome]]:
    """Positions and outcomes of all tasks, as they end; a file that kills its process fails alone."""
    if jobs == 1:
        for index, task in enumerate(tasks):
            yield index, single.attempt(job, task, lambda *told, index=index: progress(index, *told))
        return
    pending = list(reversed(range(len(tasks))))
    while pending:
        # Those at work when a process died, of which one is to blame: each again on its own.
        suspects = yield from _spread(job, tasks, pending, jobs, progress)
        for index in suspects:
            if (yield from _spread(job, tasks, [index], 1, progress)):
                yield index, Outcome(error=f"{tasks[index].source}: the process at work on it died; out of memory?")


def _spread(
    job: Job, tasks: Sequence[Task], pending: list[int], jobs: int, progress: Progress
) -> Generator[tuple[int, Outcome], None, list[int]]:
    """Take tasks off the end of `pending` until none is left or a process dies; returns those at work when it did."""
    with _pool(job, jobs) as (pool, messages):
        running: dict[Future[Outcome], int] = {}
        while pending or running:
            while pending and len(running) < jobs:
                try:
                    future = pool.submit(_attempt, pending[-1], tasks[pending[-1]])
                except BrokenProcessPool:
                    return [*running.values()] or [pending.pop()]
                running[future] = pending.pop()
            ended, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            while not messages.empty():
                progress(*messages.get())
            suspects = []
            for future in ended:
                index = running.pop(future)
                try:
                    yield index, future.result()
                except BrokenProcessPool:
                    suspects.append(index)
            if suspects:
                return [*suspects, *running.values()]
    return []


@contextmanager
def _pool(job: Job, jobs: int) -> Iterator[tuple[ProcessPoolExecutor, Any]]:
    """Processes that are gone when the block ends, however it ends, or when this process dies."""
    # spawn: a forked child of a process that runs threads (torch, MLflow) may hang.
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, context, _initialise, (job, messages, reader))
    try:
        yield pool, messages
    except BaseException:
        writer.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        writer.close()
        reader.close()
        messages.cancel_join_thread()


def _initialise(job: Job, messages: Any, life: Connection) -> None:
    global _shared
    _shared = job, messages
    # One compute thread a process, by graphs or by torch, which reads this when it is imported: the processes share the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    # Ctrl-C reaches the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    messages.cancel_join_thread()
    threading.Thread(target=_die_with, args=(life,), daemon=True).start()


def _die_with(life: Connection) -> None:
    """End this process at once when nobody holds the pipe's other end any more."""
    with suppress(EOFError, OSError):
        life.recv()
    os._exit(1)


def _attempt(index: int, task: Task) -> Outcome:
    assert _shared is not None
    job, messages = _shared
    return single.attempt(job, task, lambda share, seconds: messages.put((index, share, seconds)))
