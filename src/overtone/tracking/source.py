"""What a result was made from: settings, data, DVC's lock and uncommitted changes, now and at any commit of the repository."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from overtone.tracking import store

SETTINGS = "params.yaml"
LOCK = "dvc.lock"
PATCH = "uncommitted.patch"
# Larger changes than this are no edit of code or settings.
PATCH_BYTES = 2_000_000
# What the line itself writes is no change of its source.
WRITTEN = (LOCK, "reports")


def git(root: Path, *arguments: str) -> bytes | None:
    """What a git command prints in a folder; None where it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def at(root: Path, commit: str, name: str) -> bytes | None:
    """A file as it is in a commit; None where that has none."""
    return git(root, "show", f"{commit}:./{name}")


def patch(root: Path) -> bytes:
    """What tracked files hold beyond the commit, those aside that the line writes; binary files included."""
    left_out = [f":(exclude){name}" for name in WRITTEN]
    return git(root, "diff", "--binary", "HEAD", "--", ":/", *left_out) or b""


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


def files_now(corpus: Path) -> dict[str, bytes]:
    """What a run keeps of the source it is made from: settings, pointer to the data, lock, and uncommitted changes."""
    root = store.repository_root()
    found = {Path(name).name: root / name for name in (SETTINGS, pointer(corpus), LOCK)}
    files = {name: path.read_bytes() for name, path in found.items() if path.is_file()}
    if store.git_dirty() and len(changes := patch(root)) <= PATCH_BYTES:
        files[PATCH] = changes
    return files


def facts_now(files: Mapping[str, bytes]) -> dict[str, str]:
    """Tags of a run: the digests of those files, and DVC's of the corpus and the pairs that the lock names."""
    facts = {f"source.{name}": sha256(content) for name, content in files.items()}
    made = {f"{stage}_digest": output(files.get(LOCK), stage) for stage in ("corpus", "degrade")}
    return facts | {name: digest for name, digest in made.items() if digest}
