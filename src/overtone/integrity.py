"""What DVC keeps of the project, compared with the digests that it is named by.

DVC itself trusts an object of its cache that is still write-protected, and copies a damaged one into the workspace without
a word.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from overtone.errors import OvertoneError
from overtone.registry import released


class IntegrityError(OvertoneError):
    """No project whose cache could be looked at."""


@dataclass(frozen=True)
class Damaged:
    """An object that is not what its name says: its path, its present digest (md5), and the files that are made of it."""

    path: Path
    found: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Verdict:
    """How many objects were looked at, and which are damaged: in DVC's cache, and in the repository's own remote."""

    objects: int
    cached: tuple[Damaged, ...]
    stored: tuple[Damaged, ...]


def verify(root: Path) -> Verdict:
    """Read every object of DVC's cache and of the repository's remote.

    Args:
        root: of the project.

    Raises:
        IntegrityError: DVC knows no project there.
    """
    cache, store = _cache(root), root / released.REMOTE
    names = _names(root, [cache / "files" / "md5", store / "files" / "md5"])
    counts, found = [], []
    for place in (cache, store):
        objects = sorted((place / "files" / "md5").glob("??/*"))
        counts.append(len(objects))
        found.append(tuple(_damaged(objects, names)))
    return Verdict(sum(counts), *found)


def text(verdict: Verdict, removed: bool) -> str:
    """What was found, and what to type.

    Args:
        removed: whether the damaged objects of the cache are removed.
    """
    found = (*verdict.cached, *verdict.stored)
    if not found:
        return f"{verdict.objects} objects are what they are named by"
    lines = [
        f"{one.path}: damaged ({', '.join(map(str, one.files)) or 'named by nothing that is checked out'})"
        for one in found
    ]
    last = f"{len(found)} of {verdict.objects} objects are damaged"
    if verdict.cached and not removed:
        last += "; `overtone verify --remove` removes those of the cache, with their copies in the workspace"
    if verdict.cached:
        begun = "; removed: now" if removed else ", then"
        last += f"{begun} `dvc repro` makes and `dvc pull data.dvc` fetches them again"
    if verdict.stored:
        last += f"; `git restore {released.REMOTE}` brings back those of the repository's remote"
    return "\n".join([*lines, last])


def remove(root: Path, damaged: Damaged) -> None:
    """Remove a damaged object of the cache, and the copies of it in the workspace, so that DVC makes or fetches them again."""
    for file in damaged.files:
        if (root / file).is_file() and _digest(root / file) == damaged.found:
            (root / file).unlink()
    damaged.path.unlink()


def _cache(root: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise IntegrityError(f"{root}: no project of DVC's ({(done.stderr.strip().splitlines() or ['no reason'])[0]})")
    return Path(done.stdout.strip())


def _damaged(objects: list[Path], names: dict[str, set[Path]]) -> Iterator[Damaged]:
    for path in objects:
        # Listings of folders have an ending.
        digest = f"{path.parent.name}{path.name}"
        if (found := _digest(path)) != digest.removesuffix(".dir"):
            yield Damaged(path, found, tuple(sorted(names.get(digest, ()))))


def _names(root: Path, places: list[Path]) -> dict[str, set[Path]]:
    """Digest -> files of the project, relative to its root, that its lock and its pointers name by it."""
    found: dict[str, set[Path]] = {}
    for path, digest in _outputs(root):
        found.setdefault(digest, set()).add(path)
        for place in places if digest.endswith(".dir") else ():
            for entry in _listing(place / digest[:2] / digest[2:]):
                found.setdefault(str(entry["md5"]), set()).add(path / str(entry["relpath"]))
    return found


def _outputs(root: Path) -> Iterator[tuple[Path, str]]:
    pointers = [path for path in (*root.glob("*.dvc"), *root.glob(f"{released.FOLDER}/*.dvc")) if path.is_file()]
    for path in (root / "dvc.lock", *pointers):
        try:
            tree: Any = yaml.safe_load(path.read_text())
            holders = [tree] if path.suffix == ".dvc" else list(tree["stages"].values())
            for holder in holders:
                for out in holder.get("outs", ()):
                    if "md5" in out:
                        yield path.parent.relative_to(root) / out["path"], str(out["md5"])
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            # Names are for the reader; objects are judged without them.
            continue


def _listing(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_bytes())
        return [entry for entry in entries if {"md5", "relpath"} <= entry.keys()]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
