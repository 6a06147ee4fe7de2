"""One file: from its source, by a model that is loaded once a process, to its target or into a stream."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from overtone import audio
from overtone.audio import AudioError, containers, sending
from overtone.enhance import places
from overtone.enhance.account import account
from overtone.enhance.batch import Task
from overtone.enhance.profile import Profile
from overtone.enhance.stream import Denoiser
from overtone.enhance.upsampler import Enhanced, Mode, Upsampler
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

    @property
    def settings(self) -> dict[str, Any]:
        """As `Upsampler.treatment_of` takes them."""
        names = ("mode", "cutoff_hz", "profile", "brightness_db", "denoiser")
        return {name: getattr(self, name) for name in names}

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
        with _by_its_name(source, task.source):
            info = audio.probe(source)
            try:
                with places.delivering(task.target, job.workshop) as path, _by_its_name(path, task.target):
                    done = _write(job.recipe, source, path, info, progress)
            except OSError as error:
                if error.errno not in audio.REFUSALS:
                    raise
                raise AudioError(f"{task.target}: cannot be written: {error.strerror}") from None
        digest = places.digest(source)
    left = places.stat(task.target)
    notes = tuple(f"{task.source}: {note}" for note in done.notes)
    return Outcome(info.seconds, digest, left.stamp if left else "", done=done.account, notes=notes)


def send(
    recipe: Recipe, source: Path, stream: BinaryIO, format: str | None = None, progress: Progress | None = None
) -> Enhanced:
    """Enhance a file into a stream: WAV, Ogg Vorbis and Opus while it is computed, others when they are whole.

    FLAC, MP3 and M4A say in their first bytes what is known only in the end: their tags, the encoder's delay.

    Args:
        format: extension without its dot, None for the source's own container.

    Raises:
        AudioError: the source is not usable audio, or the format cannot be written.
        BrokenPipeError: nobody reads any more.
    """
    info, model = audio.probe(source), upsampler(recipe)
    name = Path(f"stdout.{format}" if format else f"stdout{containers.extension(info)}")
    rate = recipe.rate or model.rate
    length = audio.resampled_length(info.frames, info.rate, rate)
    kind, subtype = audio.container_for(name, info, length)
    if kind not in containers.WAVE and kind != "OGG":
        with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
            done = _write(recipe, source, Path(folder, name), info, progress)
            with Path(folder, name).open("rb") as file:
                shutil.copyfileobj(file, stream)
    else:
        texts = audio.remarks(source) if kind == "OGG" else None
        encoder = sending.Encoder(name.suffix[1:], rate, info.channels, length, subtype, info.mask, texts)
        found = model.treatment_of(source, info, **recipe.settings)
        blocks = model.blocks(source, info, found, rate=recipe.rate, progress=_share_of(info, progress))
        for piece in sending.encoded(encoder, blocks):
            stream.write(piece)
        done = Enhanced(found, account(found, recipe.mode, model.rate), info.notes)
    stream.flush()
    return done


def _write(recipe: Recipe, source: Path, target: Path, info: audio.Info, progress: Progress | None) -> Enhanced:
    model, told = upsampler(recipe), _share_of(info, progress)
    return model.enhance_file(source, target, rate=recipe.rate, progress=told, **recipe.settings)


def _share_of(info: audio.Info, progress: Progress | None) -> Callable[[float], None] | None:
    return (lambda share: progress(share, info.seconds)) if progress else None


@contextmanager
def _by_its_name(path: Path, name: str) -> Iterator[None]:
    """Errors about a file that stands for another name that other one: the user's own."""
    try:
        yield
    except AudioError as error:
        raise AudioError(str(error).replace(str(path), name)) from None
