"""What a result was made from: settings, data, DVC's lock and uncommitted changes, now and at any commit of the repository."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from overtone.tracking import store

SETTINGS = "params.yaml"
LOCK = "dvc.lock"
PATCH = "uncommitted.patch"
# Larger changes than this are no edit of code or settings.
PATCH_BYTES = 2_000_000
# A new file above this, or one that is not text, is data.
NEW_FILE_BYTES = 256_000
# What the line itself writes is no change of its source.
WRITTEN = (LOCK, "reports", ".overtone")
# Where passwords are kept.
PRIVATE = ".env"
LEFT_OUT = "source.left_out"
_NAMED = 10
_TEXT_BYTES = 8_000  # git looks as far to tell text from other files


def git(root: Path, *arguments: str, given: bytes | None = None, **environment: str) -> bytes | None:
    """What a git command prints in a folder, `given` on its standard input; None where it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=os.environ | environment,
            input=given,
            capture_output=True,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def at(root: Path, commit: str, name: str) -> bytes | None:
    """A file as it is in a commit; None where that has none."""
    return git(root, "show", f"{commit}:./{name}")


def patch(root: Path, new: Sequence[str] = ()) -> bytes:
    """What the files in a folder hold beyond the commit, those aside that the line writes; binary files included.

    Args:
        new: files that git does not track and that are part of it, as `new_files` names them.
    """
    paths = ("--", ":/", *(f":(exclude){name}" for name in WRITTEN))
    if not new:
        return git(root, "diff", "--binary", "HEAD", *paths) or b""
    top, index = (
        Path(_line(root, "rev-parse", "--show-toplevel")),
        root / _line(root, "rev-parse", "--git-path", "index"),
    )
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        # The user's own index stays as it is.
        copy = Path(folder) / "index"
        shutil.copyfile(index, copy)
        names = "\0".join(new).encode()
        intend = ("--literal-pathspecs", "add", "-N", "--pathspec-from-file=-", "--pathspec-file-nul")
        git(top, *intend, given=names, GIT_INDEX_FILE=str(copy))
        return git(root, "diff", "--binary", "HEAD", *paths, GIT_INDEX_FILE=str(copy)) or b""


def new_files(root: Path) -> tuple[list[str], list[str]]:
    """The files that git neither tracks nor ignores, by their names from git's top level.

    Returns:
        Those that code or settings may be, and those that are left out of a patch: large ones, such as recordings, and
        others that are not text.
    """
    excluded = [f":(exclude){name}" for name in WRITTEN]
    private = [f":(top,exclude,glob)**/{PRIVATE}*"]
    listed = git(root, "ls-files", "-oz", "--exclude-standard", "--full-name", "--", ":/", *excluded, *private)
    top = Path(_line(root, "rev-parse", "--show-toplevel"))
    kept, left_out = list[str](), list[str]()
    for name in filter(None, (listed or b"").decode(errors="surrogateescape").split("\0")):
        (kept if _is_text(top / name) else left_out).append(name)
    return kept, left_out


def _is_text(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > NEW_FILE_BYTES:
        return False
    with path.open("rb") as file:
        return b"\0" not in file.read(_TEXT_BYTES)


def _line(root: Path, *arguments: str) -> str:
    return (git(root, *arguments) or b"").decode().strip()


def pointer(corpus: Path | str) -> str:
    """The name of DVC's pointer file to a folder."""
    return f"{Path(corpus).as_posix().rstrip('/')}.dvc"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tree(content: bytes | None) -> dict[str, Any]:
    """A YAML file's mapping; empty for anything else."""
    try:
        found = yaml.safe_load(content or b"")
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def output(lock: bytes | None, stage: str) -> str | None:
    """DVC's digest of a stage's first output in a `dvc.lock`."""
    return _first_md5(tree(lock).get("stages", {}).get(stage, {}))


def data_md5(content: bytes | None) -> str | None:
    """DVC's digest in a pointer file."""
    return _first_md5(tree(content))


def _first_md5(entry: Mapping[str, Any]) -> str | None:
    outs = entry.get("outs") or [{}]
    found = outs[0].get("md5")
    return None if found is None else str(found)


def folder_md5(files: Mapping[str, str]) -> str:
    """DVC's digest of a folder, from the md5 of each file by its path relative to it."""
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return f"{hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"


def file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def files_now(corpus: Path) -> tuple[dict[str, bytes], str]:
    """What a run keeps of the source it is made from: settings, pointer to the data, lock, and uncommitted changes.

    Returns:
        The files, and in words what was left out of the changes; empty if nothing was.
    """
    root = store.source_root()
    found = {Path(name).name: root / name for name in (SETTINGS, pointer(corpus), LOCK)}
    files = {name: path.read_bytes() for name, path in found.items() if path.is_file()}
    if not store.git_dirty():
        return files, ""
    new, left_out = new_files(root)
    changes = patch(root, new)
    if new and len(changes) > PATCH_BYTES:
        changes, left_out = patch(root), sorted([*left_out, *new])
    if len(changes) > PATCH_BYTES:
        return files, f"all changes: {len(changes)} bytes are more than {PATCH_BYTES}"
    files[PATCH] = changes
    return files, _named(left_out)


def _named(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    shown = ", ".join(name.encode(errors="replace").decode() for name in names[:_NAMED])
    return f"{len(names)} new file{'s' if len(names) > 1 else ''}: {shown}{more}"


def facts_now(files: Mapping[str, bytes], left_out: str = "") -> dict[str, str]:
    """Tags of a run: the digests of those files, what was left out, and DVC's digests of the corpus and the pairs."""
    facts = {f"source.{name}": sha256(content) for name, content in files.items()}
    made = {f"{stage}_digest": output(files.get(LOCK), stage) for stage in ("corpus", "degrade")}
    named = made | {LEFT_OUT: left_out}
    return facts | {name: text for name, text in named.items() if text}
