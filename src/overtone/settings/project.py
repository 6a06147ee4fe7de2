"""Where the project is: the nearest folder, upwards from the working directory, whose `params.yaml` is Overtone's.

One rule for stages, commands, Python and the server. Git's top folder and DVC's root do not matter: a project may be a
subfolder of a larger repository, and the settings of another project are not ours.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from overtone.errors import OvertoneError

SETTINGS = "params.yaml"
# What the stages write, below the root.
CORPUS = Path("work/corpus")
PAIRS = Path("work/pairs")
MODELS = Path("models")
REPORTS = Path("reports")
PAGE = REPORTS / "index.html"
# Tables of settings that no other project's `params.yaml` is likely to have all of.
_MARKS = tuple(re.compile(rb"^%b[ \t]*:" % name, re.MULTILINE) for name in (b"corpus", b"degrade", b"register"))
# Where DVC makes copies of a project for `dvc exp run --temp` and `--queue`.
_COPIES = (".dvc", "tmp", "exps")


class NoProjectError(OvertoneError):
    """A command that needs a project was started outside of one."""


def is_project(folder: Path) -> bool:
    """Whether a folder is the root of an Overtone project: its `params.yaml` has our tables, whatever else is wrong with it."""
    try:
        content = (folder / SETTINGS).read_bytes()
    except OSError:
        return False
    return all(mark.search(content) for mark in _MARKS)


def source() -> Path | None:
    """The root of the files in use: the project's, or its copy's in which DVC runs an experiment; None outside a project."""
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if is_project(folder)), None)


def home() -> Path | None:
    """The project's root, whose runs and models an experiment's copy shares; None outside a project."""
    found = source()
    if found is None or (owner := _owner(found)) is None:
        return found
    # The copy holds the whole repository, of which the project may be a subfolder.
    suffixes = (owner.joinpath(*found.parts[len(found.parts) - count :]) for count in range(len(found.parts)))
    return next((folder for folder in suffixes if is_project(folder)), found)


def _owner(folder: Path) -> Path | None:
    """The folder whose experiments DVC runs in copies, if this one is in such a copy."""
    for parent in folder.parents:
        if parent.parts[-3:] == _COPIES:
            return parent.parents[2]
    return None


def root() -> Path:
    """The project's root.

    Raises:
        NoProjectError: the working directory is in no project.
    """
    return _required(home())


def source_root() -> Path:
    """The root of the files in use.

    Raises:
        NoProjectError: the working directory is in no project.
    """
    return _required(source())


def _required(folder: Path | None) -> Path:
    if folder is None:
        raise NoProjectError(
            f"{Path.cwd()}: no Overtone project here or in a folder above; expected a {SETTINGS} with the tables corpus, "
            "degrade and register (change to the project's folder)"
        )
    return folder


def in_copy() -> bool:
    """Whether this is a copy of the project that DVC made for an experiment and removes afterwards."""
    return source() != home()


def enter() -> Path:
    """Make the root of the files in use the working directory, for commands whose files are all the project's own."""
    folder = source_root()
    os.chdir(folder)
    return folder


def report_folder(system: str) -> Path:
    """Where the scores of a family's model or of a baseline are."""
    from overtone.settings.training import FAMILIES

    return REPORTS / system if system in FAMILIES else REPORTS / "baselines" / system


def cache() -> Path:
    """Where fetched models are kept: the project's `.overtone/models`, outside a project the user's own cache."""
    if (folder := home()) is not None:
        return folder / ".overtone" / "models"
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "overtone" / "models"
