"""What a user asks of `overtone enhance`, and the answer: one file, a pipe, or a run over many."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from overtone.audio import AudioError
from overtone.enhance import batch, pipes, places, run, single
from overtone.enhance.batch import Task
from overtone.enhance.places import Entry
from overtone.enhance.profile import Profile, read_profile
from overtone.enhance.progress import Display, table
from overtone.enhance.single import Job, Recipe
from overtone.enhance.stream import Denoiser
from overtone.enhance.upsampler import Mode
from overtone.errors import OvertoneError, printable

PIPE = "-"


@dataclass(frozen=True)
class Request:
    """The arguments and options of `overtone enhance`; `overtone enhance --help` explains them.

    `find` gives the folder of the model that a name means, and what it is called.
    """

    paths: Sequence[str]
    find: Callable[[str], tuple[Path, str]]
    output: str | None = None
    format: str | None = None
    model: str = "auto"
    mode: Mode = "auto"
    cutoff_hz: float | None = None
    rate: int | None = None
    references: Sequence[Path] = ()
    profile: Path | None = None
    brightness_db: float = 0.0
    denoiser: Denoiser = "network"
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
    if piped or batch.is_one_file(sources, target):
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
    folder, name = request.find(request.model)
    recipe = Recipe(
        Recipe.files(folder),
        request.mode,
        request.cutoff_hz,
        request.rate,
        request.device,
        brightness_db=request.brightness_db,
        denoiser=request.denoiser,
    )
    return replace(recipe, profile=_profile(request, recipe)), name


def _profile(request: Request, recipe: Recipe) -> Profile | None:
    if request.references and request.profile is not None:
        raise OvertoneError("--profile: expected either a profile or references, got both")
    if request.references:
        return read_profile(request.references, single.upsampler(recipe).rate)
    return None if request.profile is None else Profile.load(request.profile)


# --- one file -----------------------------------------------------------------------------------------------------------


def _one(request: Request, source: str, target: str) -> bool:
    into_pipe = target == PIPE or pipes.is_pipe(Path(target))
    if target != PIPE:
        if request.format and Path(target).suffix.lower() != f".{request.format}":
            raise OvertoneError(f"{target}: expected a name that ends in .{request.format}, as --format says")
        if source != PIPE:
            batch.check_apart(source, target)
        if places.stat(target) is not None and not request.force:
            raise OvertoneError(f"{target}: exists already; give --force to overwrite it")
    if request.dry_run:
        print(f"new\t{source}\t{target}")
        return True
    recipe, name = _recipe(request)
    with ExitStack() as stack:
        path = stack.enter_context(_received(source))
        bars = stack.enter_context(Display())
        bars.begin([Task(source, target, Path(source).name, Entry(0, ""))])

        def progress(share: float, seconds: float) -> None:
            bars.progress(0, share, seconds)

        if into_pipe:
            local = stack.enter_context(places.fetched(path))
            format = request.format or Path(target).suffix.lower()[1:] or None
            out = sys.stdout.buffer if target == PIPE else stack.enter_context(Path(target).open("wb"))
            sent = single.send(recipe, local, out, format, progress)
            notes = [f"{source}: {note}" for note in sent.notes]
        else:
            task = Task(path, target, Path(source).name, Entry(0, ""))
            outcome = single.enhance(Job(recipe), task, progress)
            notes = [note.replace(path, source) for note in outcome.notes]
    _tell(notes)
    if not into_pipe:
        model = single.upsampler(recipe)
        print(f"{target}: {recipe.rate or model.rate} Hz, by the {model.model.family.upper()} ({name})")
        print(f"{target}: {outcome.done}")
    return True


@contextmanager
def _received(source: str) -> Iterator[str]:
    """The place of a source; what comes through a pipe lies in a file meanwhile, which messages do not name."""
    piped = source == PIPE or (not places.is_address(source) and pipes.is_pipe(Path(source)))
    if not piped:
        if places.stat(source) is None:
            raise OvertoneError(f"{source}: no such file")
        yield source
        return
    name = "stdin" if source == PIPE else source
    with ExitStack() as stack:
        stream = sys.stdin.buffer if source == PIPE else stack.enter_context(Path(source).open("rb"))
        path = str(stack.enter_context(pipes.spooled(stream, name)))
        try:
            yield path
        except AudioError as error:
            raise AudioError(str(error).replace(path, name)) from None


def _tell(notes: Sequence[str]) -> None:
    """What a user has to know and need not mend, on standard error."""
    for note in notes:
        print(f"overtone: {printable(note)}", file=sys.stderr)


# --- many ---------------------------------------------------------------------------------------------------------------


def _many(request: Request, sources: Sequence[str], folder: str) -> bool:
    tasks, left = batch.tasks(sources, folder, request.format)
    _tell(left)
    if not tasks:
        raise OvertoneError(f"{', '.join(sources)}: no audio files there")
    recipe, name = _recipe(request)
    if request.dry_run:
        for step in run.plan(tasks, folder, recipe, request.force):
            print(f"{step.state}\t{step.task.source}\t{step.task.target}")
        return True
    with Display() as bars:
        summary = run.run(tasks, folder, recipe, bars, force=request.force, jobs=request.jobs, ray=request.ray)
    _tell([*summary.notes, *summary.errors])
    Console().print(table(summary))
    for line in summary.accounts:
        print(printable(line))
    print(f"{folder}: by {name}")
    return not summary.errors
