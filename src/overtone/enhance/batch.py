"""Which sources go to which targets, and what is to be done about each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from overtone import audio
from overtone.audio import containers, folders
from overtone.enhance import places
from overtone.enhance.manifest import NAME, Manifest, Record
from overtone.enhance.places import Entry
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


def tasks(sources: Sequence[str], folder: str, format: str | None = None) -> tuple[list[Task], list[str]]:
    """What goes where: the files of one folder with their structure, or several files and folders each by its own name.

    Besides, sentences about what of the folders was left out.

    Args:
        sources: files, folders, addresses of buckets.
        folder: the output folder, path or address.
        format: extension of all targets, without its dot; None keeps each source's, where it can be written.

    Raises:
        OvertoneError: a source that is not there, two that would become one target, or a target that is a source.
    """
    if not places.is_address(folder) and Path(folder).exists() and not Path(folder).is_dir():
        raise OvertoneError(f"{folder}: is a file; expected a folder for {len(sources)} sources")
    found: dict[str, Task] = {}
    left: list[str] = []
    for source in sources:
        for place, name, entry in _below(source, folder, len(sources) == 1, left):
            name = _named(name, format)
            if name in found:
                raise OvertoneError(
                    f"{found[name].source} and {place} would both become {places.join(folder, name)}; "
                    "rename one, or enhance them into different folders"
                )
            found[name] = Task(place, places.join(folder, name), name, entry)
    _check_all_apart(list(found.values()))
    return list(found.values()), left


def _named(name: str, format: str | None) -> str:
    """A target's name: of the format asked for, or its source's; FLAC for what is read and not written."""
    if format:
        return str(PurePosixPath(name).with_suffix(f".{format}"))
    return name if containers.is_writable(Path(name)) else str(PurePosixPath(name).with_suffix(".flac"))


def _below(source: str, output: str, alone: bool, left: list[str]) -> list[tuple[str, str, Entry]]:
    """Places, names in the output folder and entries of a source's files."""
    if not places.is_folder(source):
        if (entry := places.stat(source)) is None:
            raise OvertoneError(f"{source}: no such file")
        return [(source, PurePosixPath(source).name, entry)]
    within = "" if alone else f"{PurePosixPath(source if places.is_address(source) else Path(source).resolve()).name}/"
    if places.is_address(source):
        ours = (
            f"{output[len(source.rstrip('/')) + 1 :].rstrip('/')}/"
            if output.startswith(f"{source.rstrip('/')}/")
            else None
        )
        names = {name: entry for name, entry in places.walk(source).items() if not (ours and name.startswith(ours))}
        others = [name for name in names if not folders.is_audio(name)]
        if others:
            left.append(f"{source}: {folders.told(folders.NOT_AUDIO, others)}")
        return [
            (places.join(source, name), within + name, entry) for name, entry in names.items() if folders.is_audio(name)
        ]
    # The output folder's files are no sources.
    within_source = not places.is_address(output) and Path(output).resolve() != Path(source).resolve()
    walked = folders.walk(Path(source), Path(output) if within_source else None)
    left += [f"{source}: {sentence}" for sentence in walked.told()]
    return [(str(path), within + name, places.entry(path.stat())) for name, path in walked.files.items()]


def check_apart(source: str, target: str) -> None:
    """Refuse to write a file onto itself.

    Raises:
        OvertoneError: source and target are the same.
    """
    same = source == target
    if not places.is_address(source) and not places.is_address(target):
        same = _identity(source) == _identity(target)
    if same:
        raise OvertoneError(f"{target}: source and target are the same file")


def _check_all_apart(tasks: Sequence[Task]) -> None:
    """Refuse to write onto any of the sources, whatever is forced."""
    sources = {task.source if places.is_address(task.source) else _identity(task.source): task.source for task in tasks}
    for task in tasks:
        target = task.target if places.is_address(task.target) else _identity(task.target)
        if target in sources:
            check_apart(task.source, task.target)
            raise OvertoneError(
                f"{task.target}: would be written over, and is a source too; name another output folder"
            )


def _identity(path: str) -> object:
    """What two names of one file have in common: hard links, and names that differ in case on a disk that does not."""
    try:
        found = os.stat(path)  # noqa: PTH116 -- pathlib's raises on links that lead in circles
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


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
