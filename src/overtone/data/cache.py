"""Shards of a URL on the local disk: fetched once a machine, checked, and no more of them than the disk is to give.

`OVERTONE_SHARD_CACHE` is the folder (default: `overtone/shards` in the user's cache), `OVERTONE_SHARD_CACHE_GB` its size in
units of 10^9 bytes (default 20).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from overtone.audio import replacing
from overtone.data.objects import Folder, Objects, ObjectsError
from overtone.data.shards import Shard, ShardsError

FOLDER = "OVERTONE_SHARD_CACHE"
LIMIT = "OVERTONE_SHARD_CACHE_GB"
_DEFAULT_GB = 20.0
# A file that was found may be gone before it is opened, another process having needed the room.
_ATTEMPTS = 5


def limit_bytes() -> int:
    """What the cache may hold.

    Raises:
        ShardsError: the variable is not a positive number.
    """
    text = os.environ.get(LIMIT, "") or str(_DEFAULT_GB)
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not size > 0:
        raise ShardsError(f"{LIMIT}: {text!r}; expected the size of the cache of shards in GB, above 0")
    return round(size * 1e9)


def _folder() -> Path:
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overtone" / "shards"
    return Path(os.environ.get(FOLDER) or own).absolute()


class Cache:
    """Opens shards: those of a local folder where they are, those of a URL from a copy on the local disk.

    All processes of a machine share the copies; the bytes of each shard are compared with its digest before its first use.
    The least recently used copies are removed first. What is being fetched at the moment comes on top of the limit.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.folder, self.limit = _folder(), limit_bytes()
        self._checked: set[str] = set()

    @contextmanager
    def open(self, shard: Shard) -> Iterator[BinaryIO]:
        """The bytes of a shard.

        Raises:
            ObjectsError: it is missing, or cannot be reached.
            ShardsError: it is damaged, or larger than the cache.
        """
        with self._opened(shard) as file:
            yield file

    def _opened(self, shard: Shard) -> BinaryIO:
        if isinstance(self.objects, Folder):
            return self._in_place(self.objects.path, shard)
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):
                return self._copy(shard).open("rb")
        raise ShardsError(
            f"{self.folder}: too small for the shards in use at a time; raise {LIMIT}={self.limit / 1e9:g}"
        )

    def _in_place(self, folder: Path, shard: Shard) -> BinaryIO:
        path = folder / shard.name
        if not path.is_file():
            raise ObjectsError(f"{path}: no such file, but {folder} lists it")
        if shard.name not in self._checked:
            _check(path, shard, str(path))
            self._checked.add(shard.name)
        return path.open("rb")

    def _copy(self, shard: Shard) -> Path:
        path = self.folder / f"{shard.sha256}.tar"
        if not _touched(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Few locks that stay: one that is removed while another process waits for it locks nothing.
            with FileLock(self.folder / f"{shard.sha256[:1]}.lock"):
                if not _touched(path):
                    self._fetch(shard, path)
        return path

    def _fetch(self, shard: Shard, path: Path) -> None:
        if shard.bytes > self.limit:
            needed = f"expected at least the {shard.bytes / 1e9:.3g} of a shard"
            raise ShardsError(f"{LIMIT}: {self.limit / 1e9:g}; {needed}")
        self._make_room(shard.bytes)
        with replacing(path) as temporary:
            self.objects.get(shard.name, temporary)
            _check(temporary, shard, f"{self.objects.url}/{shard.name}")

    def _make_room(self, size: int) -> None:
        with FileLock(self.folder / "room.lock"):
            kept: list[tuple[int, Path, int]] = []
            for path in self.folder.glob("[0-9a-f]*.tar"):
                with suppress(FileNotFoundError):
                    facts = path.stat()
                    kept.append((facts.st_mtime_ns, path, facts.st_size))
            total = sum(bytes for _, _, bytes in kept) + size
            for _, path, bytes in sorted(kept):
                if total <= self.limit:
                    return
                path.unlink(missing_ok=True)
                total -= bytes


def _touched(path: Path) -> bool:
    """Whether it is there; then it counts as used just now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _check(path: Path, shard: Shard, name: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != shard.sha256:
        raise ShardsError(
            f"{name}: damaged: its SHA-256 is {found}, the index names {shard.sha256}; write the shards again with --force"
        )
