"""DVC's own files: the digests in pointers, in `dvc.lock` and in listings of folders, and the same digests computed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

LOCK = "dvc.lock"


def pointer(folder: Path | str) -> str:
    """The name of DVC's pointer file to a folder."""
    return f"{Path(folder).as_posix().rstrip('/')}.dvc"


def tree(content: bytes | None) -> dict[str, Any]:
    """A YAML file's mapping; empty for anything else."""
    try:
        found = yaml.safe_load(content or b"")
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def pointed(content: bytes | None) -> str | None:
    """DVC's digest in a pointer file; None where it holds none."""
    return _first_md5(tree(content))


def output(lock: bytes | None, stage: str) -> str | None:
    """DVC's digest of a stage's first output in a `dvc.lock`; None where it names none."""
    return _first_md5(tree(lock).get("stages", {}).get(stage, {}))


def _first_md5(entry: Mapping[str, Any]) -> str | None:
    outs = entry.get("outs")
    first = outs[0] if isinstance(outs, list) and outs and isinstance(outs[0], dict) else {}
    found = first.get("md5")
    return None if found is None else str(found)


def listing(path: Path) -> dict[str, str]:
    """Digests by file name in DVC's listing of a folder; empty where it is not there or is none."""
    try:
        return {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(path.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def stored(store: Path, digest: str) -> Path:
    """Where a cache, or a remote that is a folder, keeps the object of a digest."""
    return store / "files" / "md5" / digest[:2] / digest[2:]


def listed(root: Path, digest: str, name: str) -> str | None:
    """The digest of a file within a folder's digest, by the listing in the project's cache; None where that is not there."""
    return listing(stored(root / ".dvc" / "cache", digest)).get(name)


def file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def folder_md5(files: Mapping[str, str]) -> str:
    """DVC's digest of a folder, from the md5 of each file by its path relative to it."""
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return f"{hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"


def digest(folder: Path, memory: Path) -> str:
    """DVC's digest of a folder as it is on disk.

    Args:
        folder: of any depth.
        memory: JSON file of digests known by path, size and time, so that an unchanged file is read once.
    """
    from overtone.audio import replacing

    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        state, name = path.stat(), os.fsencode(path.relative_to(folder)).decode(errors="backslashreplace")
        entry = known.get(name)
        if not isinstance(entry, list) or entry[:2] != [state.st_size, state.st_mtime_ns]:
            entry = [state.st_size, state.st_mtime_ns, file_md5(path)]
        found[name] = entry
    if found != known:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with replacing(memory) as temporary:
            temporary.write_text(json.dumps(found))
    return folder_md5({name: str(entry[2]) for name, entry in found.items()})
