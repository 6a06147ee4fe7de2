"""Git, asked about the project's folder: commit, uncommitted changes, files of a commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from overtone.tracking.address import TrackingError

# What the pipeline itself writes is no change of its source.
WRITTEN = ("dvc.lock", "reports", ".overtone")
# Where passwords are kept.
_PRIVATE = ".env"
# New files above this, or that are not text, are data.
NEW_FILE_BYTES = 256_000
_TEXT_BYTES = 8_000  # git looks as far to tell text from other files


def run(root: Path, *arguments: str, given: bytes | None = None, **environment: str) -> bytes | None:
    """What a git command prints in a folder, `given` on its standard input; None where it fails or there is no git.

    Raises:
        TrackingError: git refuses the folder because it belongs to another user.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=os.environ | {"LC_ALL": "C"} | environment,
            input=given,
            capture_output=True,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if b"dubious ownership" in done.stderr:
        refused = done.stderr.decode(errors="replace").partition("repository at '")[2].partition("'")[0]
        raise TrackingError(
            f"{root}: git refuses this folder, which belongs to another user, so that no commit could be noted; if you trust "
            f"it: git config --global --add safe.directory {refused or root}"
        )
    return done.stdout if done.returncode == 0 else None


def line(root: Path, *arguments: str) -> str:
    """The one line that a git command prints; empty where it fails."""
    return (run(root, *arguments) or b"").decode(errors="surrogateescape").strip()


def commit(root: Path) -> str | None:
    """The commit checked out in a folder; None outside git or before the first commit."""
    return line(root, "rev-parse", "--verify", "HEAD") or None


def has_commit(root: Path, name: str) -> bool:
    return bool(name) and run(root, "cat-file", "-e", f"{name}^{{commit}}") is not None


def at(root: Path, commit: str, name: str) -> bytes | None:
    """A file of a folder as it is in a commit; None where that has none."""
    return run(root, "show", f"{commit}:./{name}")


def dirty(root: Path) -> bool:
    """Whether tracked files of a folder differ from the commit, those aside that the pipeline writes."""
    return bool(run(root, "status", "--porcelain", "--untracked-files=no", *_paths()))


def _paths() -> tuple[str, ...]:
    return ("--", ".", *(f":(exclude){name}" for name in WRITTEN))


def patch(root: Path, new: Sequence[str] = ()) -> bytes:
    """What the files of a folder hold beyond the commit, those aside that the pipeline writes; binary files included.

    Args:
        new: files that git does not track and that are part of it, as `new_files` names them.
    """
    if not new:
        return run(root, "diff", "--binary", "HEAD", *_paths()) or b""
    top, index = (
        Path(line(root, "rev-parse", "--show-toplevel")),
        root / line(root, "rev-parse", "--git-path", "index"),
    )
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        # The user's own index stays as it is.
        copy = Path(folder) / "index"
        shutil.copyfile(index, copy)
        names = "\0".join(new).encode(errors="surrogateescape")
        intend = ("--literal-pathspecs", "add", "-N", "--pathspec-from-file=-", "--pathspec-file-nul")
        run(top, *intend, given=names, GIT_INDEX_FILE=str(copy))
        return run(root, "diff", "--binary", "HEAD", *_paths(), GIT_INDEX_FILE=str(copy)) or b""


def new_files(root: Path) -> tuple[list[str], list[str]]:
    """The files of a folder that git neither tracks nor ignores, by their names from git's top level.

    Returns:
        Those that code or settings may be, and those that are left out of a patch: large ones, such as recordings, and
        others that are not text.
    """
    private = f":(exclude,glob)**/{_PRIVATE}*"
    listed = run(root, "ls-files", "-oz", "--exclude-standard", "--full-name", *_paths(), private)
    top = Path(line(root, "rev-parse", "--show-toplevel"))
    kept, left_out = list[str](), list[str]()
    for name in filter(None, (listed or b"").decode(errors="surrogateescape").split("\0")):
        (kept if _is_text(top / name) else left_out).append(name)
    return kept, left_out


def _is_text(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > NEW_FILE_BYTES:
        return False
    with path.open("rb") as file:
        return b"\0" not in file.read(_TEXT_BYTES)
