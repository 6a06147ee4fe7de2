"""Which sources go to which targets, and what is to be done about each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from overtone import audio
from overtone.bulk import places
from overtone.bulk.manifest import NAME, Manifest, Record
from overtone.bulk.places import Entry
from overtone.errors import OvertoneError

State = Literal["new", "changed", "interrupted", "forced", "done", "refused"]


@dataclass(frozen=True)
class Task:
    """One source and its target; `name` is the target's name in the output folder, `entry` the source as it is now."""

    source: str
    target: str
    name: str
    entry: Entry


@dataclass(frozen=True)
class Step:
    """A task and why it is done, or why not; `before` is what is known of its target."""

    task: Task
    state: State
    before: Record | None = None

    @property
    def wanted(self) -> bool:
        return self.state not in ("done", "refused")


def is_one_file(sources: Sequence[str], target: str) -> bool:
    """Whether one file goes to one file that the user names, without an output folder to keep a manifest in."""
    if len(sources) != 1 or target.endswith("/") or places.is_folder(sources[0]):
        return False
    if places.is_address(target):
        return Path(target).suffix.lower() in audio.EXTENSIONS
    return not Path(target).is_dir()


def tasks(sources: Sequence[str], folder: str, format: str | None = None) -> list[Task]:
    """What goes where: the files of one folder with their structure, or several files and folders each by its own name.

    Args:
        sources: files, folders, addresses of buckets.
        folder: the output folder, path or address.
        format: extension of all targets, without its dot; None keeps each source's.

    Raises:
        OvertoneError: a source that is not there, or two that would become one target.
    """
    found: dict[str, Task] = {}
    for source in sources:
        for place, name, entry in _below(source, folder, alone=len(sources) == 1):
            name = str(PurePosixPath(name).with_suffix(f".{format}")) if format else name
            if name in found:
                raise OvertoneError(
                    f"{found[name].source} and {place} would both become {places.join(folder, name)}; "
                    "rename one, or enhance them into different folders"
                )
            task = Task(place, places.join(folder, name), name, entry)
            check_apart(place, task.target)
            found[name] = task
    return list(found.values())


def _below(source: str, output: str, alone: bool) -> list[tuple[str, str, Entry]]:
    """Places, names in the output folder and entries of a source's files."""
    if not places.is_folder(source):
        if (entry := places.stat(source)) is None:
            raise OvertoneError(f"{source}: no such file")
        return [(source, PurePosixPath(source).name, entry)]
    within = "" if alone else f"{PurePosixPath(source if places.is_address(source) else Path(source).resolve()).name}/"
    inside = _inside(source, output)
    return [
        (places.join(source, name), within + name, entry)
        for name, entry in places.walk(source).items()
        if PurePosixPath(name).suffix.lower() in audio.EXTENSIONS and not (inside and name.startswith(inside))
    ]


def _inside(source: str, output: str) -> str | None:
    """The name of the output folder in the source folder, where it lies there: its files are no sources."""
    if places.is_address(source) or places.is_address(output):
        prefix = f"{source.rstrip('/')}/"
        return f"{output[len(prefix) :].rstrip('/')}/" if output.startswith(prefix) else None
    ours, theirs = Path(output).resolve(), Path(source).resolve()
    return f"{ours.relative_to(theirs).as_posix()}/" if ours != theirs and ours.is_relative_to(theirs) else None


def check_apart(source: str, target: str) -> None:
    """Refuse to write a file onto itself.

    Raises:
        OvertoneError: source and target are the same.
    """
    same = source == target
    if not places.is_address(source) and not places.is_address(target):
        # Not pathlib's, which raises on links that lead in circles.
        same = os.path.realpath(source) == os.path.realpath(target)
    if same:
        raise OvertoneError(f"{target}: source and target are the same file")


def steps(tasks: Sequence[Task], folder: str, manifest: Manifest, recipe: str, force: bool = False) -> list[Step]:
    """What is to be done about each task.

    A target is *ours* if it is as the manifest left it, or an interrupted run's; only such a target is replaced unless
    forced. It is *done* if its source, and the digest `recipe` of model and options, are those that it was made by.
    """
    targets = places.walk(folder)
    targets.pop(NAME, None)
    return [_step(task, targets.get(task.name), manifest.records.get(task.name), recipe, force) for task in tasks]


def _step(task: Task, target: Entry | None, before: Record | None, recipe: str, force: bool) -> Step:
    if target is None:
        return Step(task, "new")
    if force:
        return Step(task, "forced", before)
    if before is None or (before.state != "planned" and before.target_stamp != target.stamp):
        return Step(task, "refused", before)
    if before.state == "planned":
        return Step(task, "interrupted", before)
    same = before.state == "done" and before.recipe == recipe and _is_unchanged(task, before)
    return Step(task, "done" if same else "changed", before)


def _is_unchanged(task: Task, before: Record) -> bool:
    if task.entry.stamp == before.stamp:
        return True
    # Copied or touched: the content decides.
    return not places.is_address(task.source) and places.digest(Path(task.source)) == before.sha256
