"""One file: from its source, by a model that is loaded once a process, to its target."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from overtone import audio
from overtone.audio import AudioError, Signal, tags
from overtone.bulk import places
from overtone.bulk.files import Task
from overtone.enhance.account import account
from overtone.enhance.profile import Profile
from overtone.enhance.stream import Denoiser, Treatment
from overtone.enhance.upsampler import Mode, Upsampler
from overtone.errors import OvertoneError
from overtone.models.folder import CONFIG, TASKS, WEIGHTS, graph_of

# The files of a model that decide what it makes.
_DECISIVE = (CONFIG, WEIGHTS)
# Share of the file that is done, its length in seconds.
Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class Recipe:
    """What turns a source into its target.

    Args:
        model: names and bytes of the model folder's files, which other machines do not have.
        mode, cutoff_hz, profile, brightness_db: see `Upsampler.enhance`.
        denoiser: what takes noise out.
        rate: of the targets, Hz; None for the model's own.
        device: of torch.
    """

    model: tuple[tuple[str, bytes], ...]
    mode: Mode = "auto"
    cutoff_hz: float | None = None
    rate: int | None = None
    device: str = "cpu"
    profile: Profile | None = None
    brightness_db: float = 0.0
    denoiser: Denoiser = "network"

    def __post_init__(self) -> None:
        """Raises OvertoneError for a rate that is none."""
        if self.rate is not None and self.rate < 1:
            raise OvertoneError(f"rate: expected a positive number of Hz, got {self.rate}")

    @staticmethod
    def files(folder: Path) -> tuple[tuple[str, bytes], ...]:
        """Names and bytes of the files of a model folder that enhancing needs."""
        names = (*_DECISIVE, *map(graph_of, TASKS))
        return tuple((name, (folder / name).read_bytes()) for name in names if (folder / name).is_file())

    @functools.cached_property
    def digest(self) -> str:
        """Of all that decides the result: the networks, and the options; neither the device nor what only runs it faster."""
        networks = [hashlib.sha256(data).hexdigest() for name, data in self.model if name in _DECISIVE]
        profile = None if self.profile is None else hashlib.sha256(self.profile.levels.tobytes()).hexdigest()
        told = [networks, self.mode, self.cutoff_hz, self.rate, profile, self.brightness_db, self.denoiser]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What came of a task: `error` is empty if all went well; `seconds` is the source's length.

    `done` says what was done to it and why. `notes` are sentences that name the source: what of it was read otherwise than
    its header says, or was left out.
    """

    seconds: float = 0.0
    sha256: str = ""
    target_stamp: str = ""
    error: str = ""
    done: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """What all tasks of a run share; `workshop` is where targets that are not whole yet lie, None: beside themselves."""

    recipe: Recipe
    workshop: Path | None = None


@functools.lru_cache(maxsize=1)
def _loaded(model: tuple[tuple[str, bytes], ...], device: str) -> Upsampler:
    with tempfile.TemporaryDirectory(prefix="overtone-model-") as name:
        folder = Path(name)
        for file, data in model:
            (folder / file).write_bytes(data)
        return Upsampler.load(folder, device)


def upsampler(recipe: Recipe) -> Upsampler:
    """The recipe's model, loaded when it is first asked for.

    Raises:
        OvertoneError: not a usable model, or no such device.
    """
    try:
        return _loaded(recipe.model, recipe.device)
    except (RuntimeError, AssertionError) as error:
        # What torch raises of a device that is not there.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OvertoneError(f"device {recipe.device}: cannot be used ({reason})") from None


def attempt(job: Job, task: Task, progress: Progress | None = None) -> Outcome:
    """Enhance one file; whatever is wrong with it becomes the outcome's error, so that the others go on."""
    try:
        return enhance(job, task, progress)
    except OvertoneError as error:
        reason = str(error)
    except Exception as error:
        reason = f"{task.source}: {type(error).__name__}: {error}"
    return Outcome(error=reason)


def enhance(job: Job, task: Task, progress: Progress | None = None) -> Outcome:
    """Enhance one file into another, which appears whole or not at all, with its source's tags.

    Raises:
        OvertoneError: the source is not usable audio, or the target cannot be written.
    """
    with places.fetched(task.source) as source:
        info = _probed(source, task.source)
        try:
            with places.delivering(task.target, job.workshop) as path:
                try:
                    done, notes = write(job.recipe, source, path, progress, named=task.target)
                except AudioError as error:
                    # The user's own names, not those of the files that stand for them meanwhile.
                    raise AudioError(_named(_named(str(error), source, task.source), path, task.target)) from None
                except Exception as error:
                    raise audio.unwritable(error, path, path) or error from None
        except OSError as error:
            if error.errno not in audio.REFUSALS:
                raise
            raise AudioError(f"{task.target}: cannot be written: {error.strerror}") from None
        digest = places.digest(source)
    left = places.stat(task.target)
    told = tuple(f"{task.source}: {note}" for note in notes)
    return Outcome(info.seconds, digest, left.stamp if left else "", done=done, notes=told)


def write(
    recipe: Recipe, source: Path, target: Path, progress: Progress | None = None, named: str | None = None
) -> tuple[str, list[str]]:
    """Enhance a file of this machine into `target`, in the container and at the depth that the source's and its name give.

    Args:
        named: what the target will be called.

    Returns:
        what was done and why, and sentences about what was read otherwise than the source's header says, or was left out.

    Raises:
        AudioError: the source is not usable audio, or the target's format cannot be written.
    """
    info = audio.probe(source)
    rate = recipe.rate or upsampler(recipe).rate
    length = audio.resampled_length(info.frames, info.rate, rate)
    format, subtype = audio.container_for(Path(named or target), info, length)
    remarks = audio.remarks(source)
    # Of an MP3 file's texts, libsndfile writes those of plain English alone rightly.
    known = {} if format == "MP3" else remarks
    treatment = treatment_of(recipe, source, info)
    with audio.Writer(target, rate, info.channels, format, subtype, known, info.mask) as out:
        for block in blocks(recipe, source, info, treatment, progress):
            out.write(block)
    return described(recipe, treatment), [*info.notes, *tags.copy(source, target, remarks)]


def treatment_of(recipe: Recipe, source: Path, info: audio.Info) -> Treatment:
    """What the recipe asks to be done to a file.

    Raises:
        AudioError: the source is not usable audio, or a setting is out of range.
    """
    model = upsampler(recipe)
    found = model.treatment_of(source, info, recipe.mode, recipe.cutoff_hz, recipe.profile, recipe.brightness_db)
    return replace(found, denoiser=recipe.denoiser)


def described(recipe: Recipe, treatment: Treatment) -> str:
    """What is done to a file and why, in a sentence."""
    return account(treatment, recipe.mode, upsampler(recipe).rate)


def blocks(
    recipe: Recipe, source: Path, info: audio.Info, treatment: Treatment, progress: Progress | None = None
) -> Iterator[Signal]:
    """The enhanced signal of a file, block by block.

    Raises:
        AudioError: the source is not usable audio.
    """
    told = (lambda share: progress(share, info.seconds)) if progress else None
    return upsampler(recipe).blocks(source, info, treatment, rate=recipe.rate, progress=told)


def _probed(source: Path, name: str) -> audio.Info:
    try:
        return audio.probe(source)
    except AudioError as error:
        raise AudioError(_named(str(error), source, name)) from None


def _named(text: str, path: Path, name: str) -> str:
    return text.replace(str(path), name)
