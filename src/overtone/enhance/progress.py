"""How a run goes on, and what came of it, for people: on standard error while it runs, so that pipes carry audio alone."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as Bar
from rich.table import Table
from rich.text import Text

from overtone.enhance.batch import Task
from overtone.enhance.run import Summary
from overtone.enhance.single import Outcome


class _Speed(ProgressColumn):
    """How many times faster than it plays."""

    def render(self, task: Bar) -> Text:
        seconds, took = task.fields["seconds"], task.elapsed
        return Text(f"{seconds / took:.1f} x real time" if seconds and took else "")


class Display:
    """A bar for each file that is at work, and one for all where there are several."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            _Speed(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._all: TaskID | None = None
        self._names: list[str] = []
        self._open: dict[int, TaskID] = {}
        # Seconds of each file that are done.
        self._seconds: dict[int, float] = {}

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, tasks: Sequence[Task]) -> None:
        """See `run.Watcher`."""
        self._names = [task.name for task in tasks]
        if len(tasks) > 1:
            self._all = self._bars.add_task(f"{len(tasks)} files", total=len(tasks), seconds=0.0)

    def progress(self, index: int, share: float, seconds: float) -> None:
        """See `run.Watcher`."""
        if index not in self._open:
            self._open[index] = self._bars.add_task(self._names[index], total=1.0, seconds=0.0)
        self._seconds[index] = share * seconds
        self._bars.update(self._open[index], completed=share, seconds=share * seconds)
        self._show_all(0)

    def end(self, index: int, outcome: Outcome) -> None:
        """See `run.Watcher`."""
        self._seconds[index] = outcome.seconds
        if index in self._open:
            self._bars.remove_task(self._open.pop(index))
        self._show_all(1)

    def _show_all(self, more: int) -> None:
        if self._all is not None:
            self._bars.update(self._all, advance=more, seconds=sum(self._seconds.values()))


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
