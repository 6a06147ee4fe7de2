"""What the tests of faults share: copies of a finished pipeline, processes killed at moments of their progress, full disks."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from test_pipeline import Pipeline

SEED = 20_261_123
# Kills of each command, at as many moments: 1 in `make test`, more by `make faults`.
MOMENTS = int(os.environ.get("OVERTONE_FAULTS", "1"))
LEDGER = "fault"
# A search in the settings of a tiny pipeline, which lie outside the project's own space.
SEARCH: tuple[str, ...] = (
    "overtone",
    "tune",
    "--model",
    "rnn",
    "--dry-run",
    "--set",
    "tune.steps=8",
    "--set",
    "tune.heartbeat=1",
    "--set",
    "tune.epoch_steps=4",
)
SEARCH += ("--set", "tune.space.rnn={train.extend.learning_rate: {type: float, low: 0.0001, high: 0.1}}")
# A file's path, time and size.
State = tuple[str, int, int]


@dataclass
class Ledger:
    """Faults of one kind: tried, survived; and what a comparison afterwards found missing or changed."""

    properties: list[tuple[str, object]]
    name: str
    counts: dict[str, int] = field(default_factory=lambda: {"tried": 0, "survived": 0, "lost": 0})

    def __post_init__(self) -> None:
        self.properties.append((LEDGER, (self.name, self.counts)))

    def tried(self) -> None:
        self.counts["tried"] += 1

    def survived(self) -> None:
        self.counts["survived"] += 1

    def same(self, found: Mapping[Any, object], expected: Mapping[Any, object]) -> None:
        """The law: what is there afterwards is what an undisturbed run leaves."""
        differing = {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}
        self.counts["lost"] += len(differing)
        assert not differing, f"{self.name}: {sorted(differing)}"


def tree(folder: Path, *left_out: str) -> dict[str, bytes]:
    """The content of every file below a folder by its relative path.

    Hidden ones are what a kill leaves of a file begun: never under a final name, and gone when DVC empties the output.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in left_out and not path.name.startswith(".")
    }


def cache_digests(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Of each object in a project's DVC cache its content's digest, and the one that it is named by."""
    objects = list((folder / ".dvc" / "cache" / "files" / "md5").glob("??/*"))
    named = {f"{path.parent.name}{path.name}".removesuffix(".dir"): path for path in objects}
    found = {name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for name, path in named.items()}
    return found, {name: name for name in named}


def copy(pipeline: Pipeline, folder: Path, store: Path, *outputs: str) -> Pipeline:
    """The pipeline's project with a store of its own, and of what stages make only `outputs`."""
    made = ("work", "models", "reports", "checkpoints", "mlruns", ".overtone", "mlflow.db")
    skipped = {str(pipeline.folder / name) for name in (*made, ".dvc/tmp")}

    def skip(here: str, names: list[str]) -> set[str]:
        return {name for name in names if str(Path(here) / name) in skipped}

    shutil.copytree(pipeline.folder, folder, ignore=skip, symlinks=True)
    for name in outputs:
        shutil.copytree(pipeline.folder / name, folder / name)
    shutil.copyfile(store, folder / "mlflow.db")
    own = {"PYTHONPATH": str(folder / "src"), "DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "tmp" / "site")}
    return Pipeline(folder, pipeline.environment | own)


def moments(most: int, of: str) -> list[int]:
    """How far commands are let get before they are killed, in events; seeded, spread from the first to the last."""
    draw = random.Random(f"{SEED} {of}")
    width = most / MOMENTS
    return [1 + int(width * (number + draw.random())) for number in range(MOMENTS)]


def killed(pipeline: Pipeline, events: int, watched: Sequence[str], *command: str) -> bool:
    """Run a command until so many events were seen, then SIGKILL it and all of its processes.

    Args:
        events: files made or changed below `watched`.
        watched: folders and files of the project.

    Returns:
        Whether it was killed; False if it had ended before.
    """
    places = [pipeline.folder / name for name in watched]
    before = _states(places)
    with started(pipeline, *command) as process:
        return progress(process, events, places, before)


def progress(
    process: subprocess.Popen[bytes], events: int, places: Sequence[Path], before: Set[State] = frozenset()
) -> bool:
    """Wait until a process has made or changed so many files below some places; False if it ended before.

    Args:
        before: what was there when it began.
    """
    seen: set[State] = set()
    while process.poll() is None:
        seen |= _states(places) - before
        if len(seen) >= events:
            return True
        time.sleep(0.002)
    return False


@contextmanager
def started(pipeline: Pipeline, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of the pipeline, in a process group of its own that is killed at the end."""
    process = subprocess.Popen(
        command,
        cwd=pipeline.folder,
        env=pipeline.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _states(places: Sequence[Path]) -> set[State]:
    found = set()
    for place in places:
        # Files and folders come and go meanwhile, which os.walk takes as it is.
        below = (Path(folder, name) for folder, _, names in os.walk(place) for name in names)
        for path in below if place.is_dir() else (place,):
            with suppress(FileNotFoundError):
                state = path.stat()
                found.add((str(path), state.st_mtime_ns, state.st_size))
    return found


@contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A small disk of its own at a folder, whose files are copied onto it."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    aside = folder.with_name(f"{folder.name}.aside")
    if folder.exists():
        folder.rename(aside)
    folder.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        if aside.exists():
            shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder)
        if aside.exists():
            aside.rename(folder)


def read_only(folder: Path) -> None:
    """Make a disk of `disk` read-only, for root too."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def refused(pipeline: Pipeline, *command: str) -> str:
    """What a command says that cannot go on: exit status 1, and one sentence in place of a stack trace."""
    done = subprocess.run(
        command, cwd=pipeline.folder, env=pipeline.environment, capture_output=True, text=True, timeout=600, check=False
    )
    said = [text for text in done.stderr.splitlines() if text.startswith("overtone: ")]
    assert done.returncode == 1 and len(said) == 1, f"{done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr + done.stdout, done.stderr[-4000:]
    return said[0]
