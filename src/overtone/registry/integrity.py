"""What DVC keeps of the project, compared with the digests that it is named by.

DVC itself trusts an object of its cache that is still write-protected, and copies a damaged one into the workspace without
a word.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from overtone.errors import OvertoneError
from overtone.registry import released
from overtone.tracking import dvc


class IntegrityError(OvertoneError):
    """No project whose cache could be looked at."""


@dataclass(frozen=True)
class Damaged:
    """An object that is not what its name says: its path, its present md5, and the files that are made of it."""

    path: Path
    found: str
    files: tuple[Path, ...]


def verify(root: Path) -> tuple[int, list[Damaged]]:
    """Read every object of DVC's cache and of the folder `dvcstore`.

    Args:
        root: of the project.

    Returns:
        How many there are, and those that are damaged.

    Raises:
        IntegrityError: DVC knows no project there.
    """
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise IntegrityError(f"{root}: no project of DVC's ({(done.stderr.strip().splitlines() or ['no reason'])[0]})")
    places = [Path(done.stdout.strip()), root / released.REMOTE]
    objects = [path for place in places for path in sorted(place.glob("files/md5/??/*"))]
    wrong = {path: found for path in objects if (found := dvc.file_md5(path)) != _name(path).removesuffix(".dir")}
    names: dict[str, set[Path]] = {}
    for path, digest in _files(root, places) if wrong else ():
        names.setdefault(digest, set()).add(path)
    return len(objects), [
        Damaged(path, found, tuple(sorted(names.get(_name(path), ())))) for path, found in wrong.items()
    ]


def text(count: int, damaged: list[Damaged], removed: bool) -> str:
    """What was found, and what to type.

    Args:
        removed: whether the damaged objects of the cache are removed.
    """
    if not damaged:
        return f"{count} objects are what they are named by"
    lines = [
        f"{one.path}: damaged ({', '.join(map(str, one.files)) or 'named by nothing that is checked out'})"
        for one in damaged
    ]
    again = "`dvc repro` makes them again, `dvc pull` fetches them"
    last = f"removed; {again}" if removed else f"`overtone verify --remove` removes those of the cache; then {again}"
    return "\n".join(
        [*lines, f"{len(damaged)} of {count} objects are damaged: {last}; git has those of {released.REMOTE}"]
    )


def remove(root: Path, damaged: Damaged) -> None:
    """Remove a damaged object of the cache, and the copies of it in the workspace, so that DVC makes or fetches them again."""
    if damaged.path.is_relative_to(root / released.REMOTE):
        return
    for file in damaged.files:
        if (root / file).is_file() and dvc.file_md5(root / file) == damaged.found:
            (root / file).unlink()
    damaged.path.unlink()


def _name(path: Path) -> str:
    """The digest that an object is named by; listings of folders end in `.dir`."""
    return f"{path.parent.name}{path.name}"


def _files(root: Path, places: list[Path]) -> Iterator[tuple[Path, str]]:
    """The files and folders of the project, relative to its root, that its lock and pointers name, with their digests."""
    for pointer in (root / dvc.LOCK, *root.glob("*.dvc"), *root.glob(f"{released.FOLDER}/*.dvc")):
        tree = dvc.tree(pointer.read_bytes() if pointer.is_file() else None)
        for out in [out for holder in (tree, *tree.get("stages", {}).values()) for out in holder.get("outs", ())]:
            path, digest = pointer.parent.relative_to(root) / out["path"], str(out.get("md5", ""))
            yield path, digest
            for place in places if digest.endswith(".dir") else ():
                for name, md5 in dvc.listing(dvc.stored(place, digest)).items():
                    yield path / name, md5
