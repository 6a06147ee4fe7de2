"""Files wherever they are: paths of this machine and addresses of buckets (s3://bucket/key), by the same functions."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from overtone.errors import OvertoneError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")


class PlaceError(OvertoneError):
    """A path or address that cannot be reached; the message names it."""


@dataclass(frozen=True)
class Entry:
    """A file: its size in bytes, and a `stamp` that changes when its content does."""

    size: int
    stamp: str


def is_address(place: str) -> bool:
    """Whether a place is a bucket's, not this machine's."""
    return _ADDRESS.match(place) is not None


def join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if is_address(folder) else str(Path(folder, name))


def stat(place: str) -> Entry | None:
    """The file at a place, None if there is none."""
    if not is_address(place):
        path = Path(place)
        try:
            return entry(path.stat()) if path.is_file() else None
        except OSError as error:
            raise PlaceError(f"{place}: cannot be opened ({error.strerror})") from None
    with _reaching(place) as (system, key):
        try:
            found = system.info(key)
        except FileNotFoundError:
            return None
        return _object(found) if found["type"] == "file" else None


def is_folder(place: str) -> bool:
    if not is_address(place):
        return os.path.isdir(place)  # noqa: PTH112 -- pathlib's raises on names that are too long
    with _reaching(place) as (system, key):
        return bool(system.isdir(key))


def walk(folder: str) -> dict[str, Entry]:
    """Files below a folder by their names in it (with `/`), in order; hidden ones left out. An absent folder holds none."""
    return dict(sorted(_objects(folder) if is_address(folder) else _files(Path(folder))))


def _files(folder: Path) -> Iterator[tuple[str, Entry]]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder).as_posix(), entry(path.stat())


def _objects(folder: str) -> Iterator[tuple[str, Entry]]:
    with _reaching(folder) as (system, key):
        prefix = key.rstrip("/") + "/"
        for name, found in system.find(key, detail=True).items():
            inner = name.removeprefix(prefix)
            if name.startswith(prefix) and not any(part.startswith(".") for part in inner.split("/")):
                yield inner, _object(found)


def entry(found: os.stat_result) -> Entry:
    return Entry(found.st_size, f"{found.st_size}-{found.st_mtime_ns}")


def _object(found: dict[str, Any]) -> Entry:
    mark = next((found[name] for name in ("ETag", "etag", "md5Hash", "LastModified", "mtime") if found.get(name)), "")
    return Entry(int(found["size"]), f"{found['size']}-{mark}".replace('"', ""))


def read_text(place: str) -> str | None:
    """A small file's text, None if there is none."""
    if not is_address(place):
        path = Path(place)
        # Names in it may be no UTF-8.
        return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else None
    with _reaching(place) as (system, key):
        try:
            return str(system.cat_file(key).decode())
        except FileNotFoundError:
            return None


def write_object(place: str, text: str) -> None:
    """Replace a bucket's object as a whole."""
    with _reaching(place) as (system, key):
        system.pipe_file(key, text.encode())


@contextmanager
def fetched(place: str) -> Iterator[Path]:
    """A file of this machine with the content of the place; a bucket's object is copied, for as long as the block runs."""
    if not is_address(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder, f"source{Path(place).suffix}")
        with _reaching(place) as (system, key):
            system.get_file(key, str(path))
        yield path


@contextmanager
def delivering(place: str, workshop: Path | None = None) -> Iterator[Path]:
    """A path to write; what is there when the block ends becomes the file at the place, as a whole, or nothing does.

    Args:
        workshop: a folder on the target's own file system for what is not whole yet; None: the target's own.
    """
    if is_address(place):
        with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
            path = Path(folder, f"target{Path(place).suffix}")
            yield path
            with _reaching(place) as (system, key):
                system.put_file(str(path), key)
        return
    target = Path(place)
    target.parent.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    path = (workshop or target.parent) / f".{name}.{os.getpid()}{target.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield path
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """SHA-256 of a file of this machine."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _reaching(place: str) -> Iterator[tuple[Any, str]]:
    """The file system and key behind an address; what goes wrong there becomes one sentence."""
    try:
        # What others put into the bucket meanwhile must be seen.
        system, key = fsspec.core.url_to_fs(place, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise PlaceError(f"{place}: {error}; for s3:// addresses install overtone[s3]") from None
    try:
        yield system, str(key)
    except (OvertoneError, FileNotFoundError):
        raise
    except Exception as error:
        # Each store's client raises its own kinds.
        raise PlaceError(f"{place}: cannot be reached ({str(error) or type(error).__name__})") from error
