"""What a user asks of `overtone enhance`, and the answer: one file, a pipe, or a run over many."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from overtone import ending
from overtone.bulk import display, files, pipes, places, run, work
from overtone.bulk.files import Task
from overtone.bulk.places import Entry
from overtone.bulk.work import Job, Recipe
from overtone.errors import OvertoneError, printable
from overtone.registry import resolve
from overtone.upsample import Mode

PIPE = "-"


@dataclass(frozen=True)
class Request:
    """The arguments and options of `overtone enhance`; `overtone enhance --help` explains them."""

    paths: Sequence[str]
    output: str | None = None
    format: str | None = None
    model: str = "auto"
    mode: Mode = "auto"
    cutoff_hz: float | None = None
    rate: int | None = None
    device: str = "cpu"
    jobs: int | None = None
    ray: str | None = None
    force: bool = False
    dry_run: bool = False


def answer(request: Request) -> bool:
    """Do what is asked; whether no file failed.

    Raises:
        OvertoneError: nothing can be done: sources, targets, model or options are wrong, or the only file is.
    """
    sources, target = _sides(request)
    piped = PIPE in (*sources, target)
    if piped and len(sources) > 1:
        raise OvertoneError(f"{PIPE}: expected one source where standard input or output is used")
    if request.ray and piped:
        raise OvertoneError(f"{PIPE}: standard input and output cannot be used with Ray")
    if piped or files.is_one_file(sources, target):
        return _one(request, sources[0], target)
    return _many(request, sources, target)


def _sides(request: Request) -> tuple[Sequence[str], str]:
    """The sources and the target: the last path unless there is an output."""
    if request.output is not None:
        return request.paths, request.output
    if list(request.paths) == [PIPE]:
        return request.paths, PIPE
    if len(request.paths) == 2:
        return request.paths[:1], request.paths[1]
    raise OvertoneError("expected a source and a target, or --output FOLDER after any number of sources")


def _recipe(request: Request) -> tuple[Recipe, str]:
    folder, name = resolve.folder(request.model)
    recipe = Recipe.of(folder, mode=request.mode, cutoff_hz=request.cutoff_hz, rate=request.rate, device=request.device)
    return recipe, name


# --- one file -----------------------------------------------------------------------------------------------------------


def _one(request: Request, source: str, target: str) -> bool:
    if target != PIPE:
        if request.format and Path(target).suffix.lower() != f".{request.format}":
            raise OvertoneError(f"{target}: expected a name that ends in .{request.format}, as --format says")
        if source != PIPE:
            files.check_apart(source, target)
        if places.stat(target) is not None and not request.force:
            raise OvertoneError(f"{target}: exists already; give --force to overwrite it")
    if request.dry_run:
        print(f"new\t{source}\t{target}")
        return True
    recipe, name = _recipe(request)
    with ExitStack() as stack:
        stack.enter_context(ending.ended_by_signals())
        if source == PIPE:
            source = str(stack.enter_context(pipes.spooled(sys.stdin.buffer)))
        elif places.stat(source) is None:
            raise OvertoneError(f"{source}: no such file")
        task = Task(source, target, Path(source).name, Entry(0, ""))
        bars = stack.enter_context(display.Display())
        bars.begin([task])
        if target == PIPE:
            path = stack.enter_context(places.fetched(source))
            pipes.send(recipe, path, sys.stdout.buffer, request.format, lambda *told: bars.progress(0, *told))
            return True
        work.enhance(Job(recipe), task, lambda *told: bars.progress(0, *told))
    model = work.upsampler(recipe)
    print(f"{target}: {recipe.rate or model.rate} Hz, by the {model.config['model'].upper()} ({name})")
    return True


# --- many ---------------------------------------------------------------------------------------------------------------


def _many(request: Request, sources: Sequence[str], folder: str) -> bool:
    tasks = files.tasks(sources, folder, request.format)
    if not tasks:
        raise OvertoneError(f"{', '.join(sources)}: no audio files there")
    recipe, name = _recipe(request)
    if request.dry_run:
        for step in run.plan(tasks, folder, recipe, request.force):
            print(f"{step.state}\t{step.task.source}\t{step.task.target}")
        return True
    with display.Display() as bars:
        summary = run.run(tasks, folder, recipe, bars, force=request.force, jobs=request.jobs, ray=request.ray)
    for error in summary.errors:
        print(f"overtone: {printable(error)}", file=sys.stderr)
    Console().print(display.table(summary))
    print(f"{folder}: by {name}")
    return not summary.errors
