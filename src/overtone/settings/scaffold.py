"""A new project around a user's own recordings: settings, stages, DVC and git, from the installed package.

Its files are this project's own `params.yaml` and `dvc.yaml`, without what concerns this project alone: the roles of its
recordings, and the source files that its stages depend on. In their place stands `overtone.version`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from overtone.audio import folders
from overtone.errors import OvertoneError, missing_extra

# In an installed package; a clone has them at its root.
PACKED = Path(__file__).parents[1] / "template"
FILES = ("params.yaml", "dvc.yaml")
VERSION = "overtone.version"
RECORDINGS = "data"
_IGNORED = (
    *("/work/", "/models/", "/reports/", "/checkpoints/", "/mlruns/", "/mlartifacts/", "/.overtone/"),
    *("/mlflow.db*", "/optuna.db*", "*.journal*", "/.env*", "/dvc_plots/"),
)
_DVC = {
    ".dvc/config": "[core]\n    analytics = false\n    remote = work\n['remote \"work\"']\n    url = remote\n",
    ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n/remote\n",
    ".dvcignore": "",
}
_SOURCES = re.compile(r"^ *- (?:src|docs)/\S+\n", re.MULTILINE)
_DEPENDENCIES = re.compile(r"^( +)deps:\n(?! *- \$\{item)", re.MULTILINE)
# The first commit of a user whose name git does not know.
_NAMED = ("-c", "user.name=Overtone", "-c", "user.email=overtone@localhost", "-c", "commit.gpgsign=false")


def create(folder: Path, recordings: Path | None = None) -> Path:
    """Set up a project in a folder, which may exist and hold recordings; where its recordings are to lie.

    Args:
        recordings: folder of audio, anywhere; None for `data` in the new project.

    Raises:
        OvertoneError: there is a project already, the recordings are no folder, or git or DVC are not there.
    """
    there = [name for name in (*FILES, VERSION) if (folder / name).exists()]
    if there:
        raise OvertoneError(f"{folder / there[0]}: exists already; expected a folder without a project in it")
    if recordings is not None and not recordings.is_dir():
        raise OvertoneError(f"{recordings}: no such folder; expected the folder of your recordings")
    if shutil.which("git") is None:
        raise OvertoneError("git is not installed; expected it for a new project")
    if find_spec("dvc") is None:
        raise missing_extra(ModuleNotFoundError(name="dvc"), "`overtone init`") or OvertoneError("DVC is not installed")
    templates = {name: packed(name).read_text() for name in FILES}
    folder.mkdir(parents=True, exist_ok=True)
    place = _placed(folder, recordings)
    (folder / "params.yaml").write_text(_own_settings(templates["params.yaml"], place))
    (folder / "dvc.yaml").write_text(_own_stages(templates["dvc.yaml"]))
    (folder / VERSION).write_text(f"{version('overtone')}\n")
    _put_under_git(folder, [*_IGNORED, *([] if Path(place).is_absolute() else [f"/{place}"])])
    _put_under_dvc(folder)
    _run(folder, "git", "add", ".dvc", ".dvcignore", ".gitignore", VERSION, *FILES)
    _run(folder, "git", *(() if _has_name(folder) else _NAMED), "commit", "-qm", "A new Overtone project")
    return folder / place


def packed(name: str) -> Path:
    """A file of this project, as the package brings it or its clone has it.

    Raises:
        OvertoneError: the installation is not whole.
    """
    for root in (PACKED, Path(__file__).parents[3]):
        if (root / name).is_file():
            return root / name
    raise OvertoneError(f"{PACKED / name}: no such file; expected it in the installed package: install Overtone anew")


def _placed(folder: Path, recordings: Path | None) -> str:
    """The folder of recordings as the settings are to name it."""
    if recordings is not None:
        found = recordings.resolve()
        inside = found.is_relative_to(folder.resolve()) and found != folder.resolve()
        return found.relative_to(folder.resolve()).as_posix() if inside else str(found)
    if (folder / RECORDINGS).is_dir():
        return RECORDINGS
    # Recordings that lie in the folder already.
    tops = {name.partition("/")[0] for name in folders.walk(folder).files}
    if len(tops) > 1 or any((folder / top).is_file() for top in tops):
        raise OvertoneError(f"{folder}: has recordings in several places; name their folder with --recordings")
    return tops.pop() if tops else RECORDINGS


def _own_settings(text: str, place: str) -> str:
    """Settings with the user's recordings, whose roles nobody has fixed."""
    text = re.sub(
        r"^(corpus:\n  path: )\S+", lambda found: f"{found[1]}{_quoted(place)}", text, count=1, flags=re.MULTILINE
    )
    before, head, rest = text.partition("\n  assign:")
    return before + head + re.sub(r"^(    (?:train|valid|test): )\[.*\]", r"\1[]", rest, count=3, flags=re.MULTILINE)


def _quoted(place: str) -> str:
    return place if re.fullmatch(r"[\w./-]+", place) else "'" + place.replace("'", "''") + "'"


def _own_stages(text: str) -> str:
    """Stages that depend on the installed version in place of source files."""
    text = re.sub(r"src/\S+\.py(?=\})", VERSION, text)
    text = _DEPENDENCIES.sub(rf"\1deps:\n\1  - {VERSION}\n", _SOURCES.sub("", text))
    head = f"# The pipeline of Overtone. After an upgrade, write its version into {VERSION}: `dvc repro` then makes all anew.\n"
    return head + re.sub(r"\A(?:#.*\n)+", "", text)


def _put_under_git(folder: Path, ignored: list[str]) -> None:
    inside = subprocess.run(["git", "rev-parse", "--git-dir"], cwd=folder, capture_output=True, check=False)
    if inside.returncode:
        _run(folder, "git", "init", "-q")
    path = folder / ".gitignore"
    known = path.read_text().splitlines() if path.is_file() else []
    path.write_text("\n".join([*known, *(line for line in ignored if line not in known)]) + "\n")


def _put_under_dvc(folder: Path) -> None:
    """What `dvc init` and `dvc remote add` would write, in a folder of git's own or in a part of one."""
    for name, text in _DVC.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if not (folder / name).exists():
            (folder / name).write_text(text)


def _has_name(folder: Path) -> bool:
    found = subprocess.run(["git", "config", "user.email"], cwd=folder, capture_output=True, check=False)
    return found.returncode == 0


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise OvertoneError(f"{folder}: {' '.join(command)} failed: {''.join(last)}")
