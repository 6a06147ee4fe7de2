"""How a run goes on, and what came of it, for people: on standard error while it runs, so that pipes carry audio alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from overtone.bulk.files import Task
from overtone.bulk.run import Summary
from overtone.bulk.work import Outcome


class Display:
    """A bar for all files and one for each that is at work: share, time left, and how many times faster than it plays."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._all: TaskID | None = None
        self._names: list[str] = []
        self._open: dict[int, TaskID] = {}
        self._heard: dict[int, float] = {}
        self._files = 0
        self._began = time.monotonic()
        self._starts: dict[int, float] = {}

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, tasks: Sequence[Task]) -> None:
        self._names = [task.name for task in tasks]
        self._began = time.monotonic()
        if len(tasks) > 1:
            self._all = self._bars.add_task(f"0 of {len(tasks)} files", total=len(tasks), speed="")

    def progress(self, index: int, share: float, seconds: float) -> None:
        if index not in self._open:
            self._open[index] = self._bars.add_task(self._names[index], total=1.0, speed="")
            self._starts[index] = time.monotonic()
        self._heard[index] = share * seconds
        speed = _speed(share * seconds, time.monotonic() - self._starts[index])
        self._bars.update(self._open[index], completed=share, speed=speed)
        self._tell_all()

    def end(self, index: int, outcome: Outcome) -> None:
        self._files += 1
        self._heard[index] = outcome.seconds
        if index in self._open:
            self._bars.remove_task(self._open.pop(index))
        self._tell_all()

    def _tell_all(self) -> None:
        if self._all is not None:
            took = time.monotonic() - self._began
            speed = f"{self._files / took:.1f} files/s, {_speed(sum(self._heard.values()), took)}" if took > 0 else ""
            told = f"{self._files} of {len(self._names)} files"
            self._bars.update(self._all, completed=self._files, description=told, speed=speed)


def _speed(seconds: float, took: float) -> str:
    return f"{seconds / took:.1f} x real time" if took > 0 and seconds else ""


def table(summary: Summary) -> Table:
    """What came of a run."""
    made = Table("files", "", title_justify="left", show_header=False)
    made.add_row("enhanced", str(summary.done))
    made.add_row("done before", str(summary.skipped))
    made.add_row("failed", str(len(summary.errors)))
    made.add_row("audio", f"{summary.seconds:.1f} s")
    made.add_row("time", f"{summary.took:.1f} s")
    if summary.done:
        rate = f"{summary.done / summary.took:.2f} files/s, {summary.seconds / summary.took:.1f} x real time"
        made.add_row("throughput", rate)
    return made
