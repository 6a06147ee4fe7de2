"""A corpus as shards: tar files in the WebDataset format, and an index that names them by digest.

A shard is a plain tar file. Each sample, a clip, is two files of one number: `000017.flac`, byte for byte as in the corpus,
and `000017.json`, its row of the manifest. `shards.json` lists the shards of each split. A place is a folder or a URL that
fsspec knows.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from overtone.data import parallel
from overtone.data.corpus import Clip, CorpusError, read_manifest
from overtone.errors import OvertoneError, needs_extra
from overtone.settings import Settings

INDEX = "shards.json"
VERSION: Literal[2] = 2
DEFAULT_BYTES = 64_000_000
_NAME = r"(train|valid)-\d{5}-[0-9a-f]{12}\.tar"
_NAMED = re.compile(_NAME)
# Seconds to wait for a store's connection and for its answer, and how often to ask: one that does not answer is given up
# after about a minute.
_CONNECT, _ANSWER, _ATTEMPTS = 5, 20, 3

Split = Literal["train", "valid"]
_SPLITS: tuple[Split, ...] = ("train", "valid")


class ShardsError(OvertoneError):
    """Shards that cannot be written or read; the message names the place or the shard and what was expected."""


class Shard(Settings):
    """One tar file: how many samples and bytes it has, and the SHA-256 of all of it."""

    # An index may be anyone's, and its names become paths.
    name: Annotated[str, Field(pattern=rf"\A{_NAME}\z")]
    samples: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class Index(Settings):
    """What `shards.json` says."""

    format: Literal["overtone-shards"] = "overtone-shards"
    version: Literal[2] = VERSION
    train: tuple[Shard, ...]
    valid: tuple[Shard, ...]

    @property
    def shards(self) -> tuple[Shard, ...]:
        return (*self.train, *self.valid)

    @property
    def digest(self) -> str:
        """SHA-256 of the index, which has the digest of every shard: the same for the same content anywhere."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"


# --- places -------------------------------------------------------------------------------------------------------------


class Place:
    """A folder, or what is below a URL; S3's endpoint and keys come from the usual variables (`AWS_ENDPOINT_URL`, ...).

    Whatever a store's library raises becomes a `ShardsError` of one sentence: each store has errors of its own.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._errors():
            self._files, self._root = _filesystem(self.url)

    def sizes(self) -> dict[str, int]:
        """Names and sizes in bytes of all files directly below."""
        with self._errors():
            try:
                listed = self._files.ls(self._root, detail=True, refresh=True)
            except FileNotFoundError:
                return {}
        return {one["name"].rpartition("/")[2]: int(one["size"] or 0) for one in listed if one["type"] == "file"}

    def read(self, name: str) -> bytes | None:
        """A small file; None if it does not exist."""
        with self._errors():
            try:
                return bytes(self._files.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

    def get(self, name: str, path: Path) -> None:
        """Copy a file to a local path."""
        with self._errors(name):
            self._files.get_file(f"{self._root}/{name}", str(path))

    def put(self, path: Path, name: str) -> None:
        """Copy a local file to a name, over what was there."""
        with self._errors():
            self._files.put_file(str(path), f"{self._root}/{name}")

    def remove(self, name: str) -> None:
        with self._errors():
            self._files.rm_file(f"{self._root}/{name}")

    @contextmanager
    def _errors(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except OvertoneError:
            raise
        except FileNotFoundError:
            raise ShardsError(f"{self.url}/{name}: no such file") from None
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ShardsError(f"{self.url}: cannot be reached: {reason[0]}") from None


def _filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it."""
    known = importlib.import_module("fsspec.core")
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    scheme = url.partition("://")[0] if "://" in url else "file"
    if scheme == "file":
        options["auto_mkdir"] = True
    if scheme in ("s3", "s3a"):
        retries = {"total_max_attempts": 1}
        options["config_kwargs"] = {"connect_timeout": _CONNECT, "read_timeout": _ANSWER, "retries": retries}
    files, root = known.url_to_fs(url, **options)
    if scheme in ("s3", "s3a"):
        # Its own attempts, around those of botocore.
        files.retries = _ATTEMPTS
    return files, root


# --- reading ------------------------------------------------------------------------------------------------------------


def read_index(place: Place) -> Index:
    """The index of a folder or URL.

    Raises:
        ShardsError: the place cannot be reached, or has no index or one of another version.
    """
    content = place.read(INDEX)
    if content is None:
        raise ShardsError(f"{place.url}: no {INDEX}; expected what `overtone shards` writes")
    try:
        tree = json.loads(content)
        if isinstance(tree, dict) and tree.get("version", VERSION) != VERSION:
            raise ShardsError(
                f"{place.url}/{INDEX}: version {tree['version']}; expected {VERSION}: write the shards again"
            )
        return Index.model_validate(tree)
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError):
        raise ShardsError(f"{place.url}/{INDEX}: not an index of shards, or damaged: write them again") from None


def samples(place: Place, shard: Shard) -> Iterator[tuple[Clip, bytes]]:
    """The row and the FLAC file of each sample of a shard, in order; its bytes are compared with its digest first.

    Raises:
        ShardsError: the shard is missing, damaged or of another version.
    """
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder) / shard.name
        place.get(shard.name, path)
        if (digest := _sha256(path)) != shard.sha256:
            raise ShardsError(
                f"{place.url}/{shard.name}: damaged: its SHA-256 is {digest}, the index names {shard.sha256}; "
                "write the shards again with --force"
            )
        try:
            with tarfile.open(path, "r:") as archive:
                files: dict[str, bytes] = {}
                for member in archive:
                    content = archive.extractfile(member)
                    files[member.name.partition(".")[2]] = content.read() if content else b""
                    if len(files) == 2:
                        yield Clip(**json.loads(files["json"])), files["flac"]
                        files = {}
        except (tarfile.TarError, KeyError, TypeError, ValueError) as error:
            raise ShardsError(f"{shard.name}: not a shard of this version: {error}; write the shards again") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- writing ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """What writing came to: `uploaded` counts shards that were not there yet; False for `changed`: nothing was."""

    index: Index
    uploaded: int
    changed: bool

    def text(self, target: str) -> str:
        """What was written to a place, and how to train with it."""
        lines = []
        for split, group in (("train", self.index.train), ("valid", self.index.valid)):
            size = sum(shard.bytes for shard in group) / 1e6
            lines.append(
                f"  {split}: {sum(shard.samples for shard in group)} clips in {len(group)} shards, {size:.1f} MB"
            )
        done = f"{self.uploaded} shards written" if self.changed else "up to date"
        lines.append(f"{target}: {done}, digest {self.index.digest}")
        return "\n".join([*lines, f"train with it: dvc exp run -S train.data.source={target}@{self.index.digest[:12]}"])


@dataclass(frozen=True)
class _Planned:
    """A shard to be made of clips of a corpus; they are numbered from `first`."""

    corpus: Path
    split: Split
    number: int
    first: int
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class _Target:
    """`present`: sizes of what is there; `stored`: whether shards are kept, or only measured."""

    url: str
    present: dict[str, int]
    stored: bool


def write(
    corpus: Path,
    url: str,
    shard_bytes: int = DEFAULT_BYTES,
    force: bool = False,
    progress: parallel.Progress | None = None,
    workers: int | None = None,
) -> Written:
    """Write the clips of training and validation as shards.

    Each shard's name has its digest, and the index comes last: until then the place holds what it held before, and a call
    that was interrupted finds the shards that it had stored.

    Args:
        corpus: folder that the stage `corpus` wrote.
        url: where to.
        shard_bytes: a shard is full when its clips have so many.
        force: replace another set of shards that is there, and store again what may be damaged.
        progress: called with (shards done, shards).
        workers: processes, None for one a core.

    Raises:
        CorpusError: no corpus there, or one without clips of a split.
        ShardsError: the place cannot be reached or written to, or holds another set of shards and `force` is not given.
    """
    planned = [part for split in _SPLITS for part in _plan(corpus, split, shard_bytes)]
    place = Place(url)
    present = place.sizes()
    before = read_index(place) if INDEX in present and not force else None
    # What is named to be replaced is stored again, for it may be damaged. Where there is another set, nothing is stored
    # before it is known whether the new one is the same.
    made = parallel.run(_make, _Target(url, {} if force else present, before is None), planned, workers, progress)
    by_split: dict[str, list[Shard]] = {"train": [], "valid": []}
    for part, (shard, _) in zip(planned, made, strict=True):
        by_split[part.split].append(shard)
    index = Index(train=tuple(by_split["train"]), valid=tuple(by_split["valid"]))
    if before is not None:
        if before != index:
            raise ShardsError(f"{place.url}: holds other shards ({before.digest[:12]}); give --force to replace them")
        if all(present.get(shard.name) == shard.bytes for shard in index.shards):
            return Written(index, 0, False)
        made = parallel.run(_make, _Target(url, present, True), planned, workers, progress)
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder) / INDEX
        path.write_text(index.text())
        place.put(path, INDEX)
    for name in present.keys() - {shard.name for shard in index.shards}:
        if _NAMED.fullmatch(name):
            place.remove(name)
    return Written(index, sum(new for _, new in made), True)


def order(clip: Clip) -> tuple[str, str, str]:
    """By kind, source and name: the order of a split's clips."""
    return clip.kind, clip.source, clip.clip


def _plan(corpus: Path, split: Split, shard_bytes: int) -> Iterator[_Planned]:
    """The clips of a split, cut into shards."""
    clips = sorted((clip for clip in read_manifest(corpus) if clip.split == split), key=order)
    if not clips:
        raise CorpusError(f"{corpus}: no clips of the split {split!r}; expected at least one")
    group, size, number, first = list[Clip](), 0, 0, 0
    for clip in clips:
        group.append(clip)
        size += (corpus / clip.path).stat().st_size
        if size >= shard_bytes:
            yield _Planned(corpus, split, number, first, tuple(group))
            number, first, group, size = number + 1, first + len(group), [], 0
    if group:
        yield _Planned(corpus, split, number, first, tuple(group))


def _make(target: _Target, part: _Planned) -> tuple[Shard, bool]:
    """One shard, and whether it had to be stored."""
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder) / "shard.tar"
        _pack(part, path)
        sha256 = _sha256(path)
        name = f"{part.split}-{part.number:05d}-{sha256[:12]}.tar"
        shard = Shard(name=name, samples=len(part.clips), bytes=path.stat().st_size, sha256=sha256)
        missing = target.present.get(name) != shard.bytes
        if missing and target.stored:
            Place(target.url).put(path, name)
    return shard, missing


def _pack(part: _Planned, path: Path) -> None:
    """The same bytes for the same samples, whoever writes them and when."""
    with needs_extra("Writing shards"):
        library: Any = importlib.import_module("webdataset")
    with path.open("wb") as file, library.TarWriter(file, user="", group="", mtime=0, encoder=False) as writer:
        for number, clip in enumerate(part.clips, part.first):
            row = json.dumps(asdict(clip), ensure_ascii=False).encode()
            writer.write({"__key__": f"{number:06d}", "json": row, "flac": (part.corpus / clip.path).read_bytes()})
