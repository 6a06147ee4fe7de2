"""Files below a local folder or below an object store's URL, by one set of verbs."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from overtone.audio import replacing
from overtone.errors import OvertoneError

# Seconds to wait for a store's connection and for its answer, and how often to ask: one that does not answer is given up
# after about a minute.
_CONNECT, _ANSWER, _ATTEMPTS = 5, 20, 3


class ObjectsError(OvertoneError):
    """A folder or store that cannot be reached, or lacks a file; the message names it and gives the reason."""


class Objects(Protocol):
    """Files by name. What is put under a name is there as a whole or not at all."""

    url: str

    def sizes(self) -> dict[str, int]:
        """Names and sizes in bytes of all files directly below."""

    def read(self, name: str) -> bytes | None:
        """A small file, None if there is none of that name."""

    def get(self, name: str, path: Path) -> None:
        """Copy a file to a local path."""

    def put(self, path: Path, name: str) -> None:
        """Copy a local file to a name, over what was there."""

    def remove(self, name: str) -> None: ...


def open_objects(url: str) -> Folder | Bucket:
    """A local folder, or `scheme://...` of whatever fsspec knows."""
    return Bucket(url) if "://" in url else Folder(Path(url))


class Folder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = str(path)

    def sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.path.glob("*") if path.is_file()}

    def read(self, name: str) -> bytes | None:
        path = self.path / name
        return path.read_bytes() if path.is_file() else None

    def get(self, name: str, path: Path) -> None:
        with _clear(f"{self.url}/{name}"):
            shutil.copyfile(self.path / name, path)

    def put(self, path: Path, name: str) -> None:
        with _clear(self.url), replacing(self.path / name) as temporary:
            shutil.copyfile(path, temporary)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)


class Bucket:
    """What is below a URL; S3's endpoint and keys come from the usual variables (`AWS_ENDPOINT_URL`, ...).

    Safe in forked loader processes and can be pickled: each process opens connections of its own.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def sizes(self) -> dict[str, int]:
        with _clear(self.url):
            try:
                listed = self._files.ls(self.url, detail=True, refresh=True)
            except FileNotFoundError:
                return {}
        return {one["name"].rpartition("/")[2]: int(one["size"] or 0) for one in listed if one["type"] == "file"}

    def read(self, name: str) -> bytes | None:
        with _clear(self.url):
            try:
                return bytes(self._files.cat_file(f"{self.url}/{name}"))
            except FileNotFoundError:
                return None

    def get(self, name: str, path: Path) -> None:
        with _clear(f"{self.url}/{name}"):
            self._files.get_file(f"{self.url}/{name}", str(path))

    def put(self, path: Path, name: str) -> None:
        with _clear(self.url):
            self._files.put_file(str(path), f"{self.url}/{name}")

    def remove(self, name: str) -> None:
        with _clear(self.url):
            self._files.rm_file(f"{self.url}/{name}")

    @property
    def _files(self) -> Any:
        return _filesystem(self.url.partition("://")[0], os.getpid())


@functools.lru_cache(maxsize=8)
def _filesystem(scheme: str, _process: int) -> Any:
    """fsspec's file system; one a process, since connections do not survive a fork."""
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError:
        raise ObjectsError(
            "fsspec is not installed; expected the extra `shards`: pip install 'overtone[shards]'"
        ) from None

    if scheme in ("s3", "s3a"):
        retries = {"total_max_attempts": 1}
        config = {"connect_timeout": _CONNECT, "read_timeout": _ANSWER, "retries": retries}
        files = fsspec.filesystem(scheme, config_kwargs=config, skip_instance_cache=True, use_listings_cache=False)
        # Its own attempts, around those of botocore.
        files.retries = _ATTEMPTS
        return files
    return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)


@contextmanager
def _clear(what: str) -> Iterator[None]:
    """Whatever a store's library raises, as one sentence: each store has errors of its own."""
    try:
        yield
    except (OvertoneError, FileNotFoundError) as error:
        if isinstance(error, OvertoneError):
            raise
        raise ObjectsError(f"{what}: no such file") from None
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ObjectsError(f"{what}: cannot be reached: {reason[0]}") from None
