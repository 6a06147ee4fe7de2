"""A corpus as shards: tar files in the WebDataset format, and an index that names them by digest.

A shard is a plain tar file. Each sample, a clip, is two files of one number: `000017.flac`, byte for byte as in the corpus,
and `000017.json`, its row of the manifest. `shards.json` lists the shards of each split.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from overtone.data import parallel
from overtone.data.corpus import Clip, CorpusError, read_manifest
from overtone.data.objects import Objects, open_objects
from overtone.errors import OvertoneError
from overtone.settings import Settings

INDEX = "shards.json"
VERSION: Literal[2] = 2
DEFAULT_BYTES = 64_000_000
_NAME = r"(train|valid)-\d{5}-[0-9a-f]{12}\.tar"
_NAMED = re.compile(_NAME)

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
        return "\n".join(
            [
                *lines,
                f"{target}: {done}, digest {self.index.digest}",
                f"train with it: dvc exp run -S train.data.source={target}@{self.index.digest[:12]}",
            ]
        )


def read_index(objects: Objects) -> Index:
    """The index of a folder or URL.

    Raises:
        ObjectsError: it cannot be reached.
        ShardsError: no index there, or one of another version.
    """
    index = _found(objects)
    if index is None:
        raise ShardsError(f"{objects.url}: no {INDEX}; expected what `overtone shards` writes")
    return index


def _found(objects: Objects) -> Index | None:
    content = objects.read(INDEX)
    if content is None:
        return None
    try:
        tree = json.loads(content)
        if isinstance(tree, dict) and tree.get("version", VERSION) != VERSION:
            raise ShardsError(
                f"{objects.url}/{INDEX}: version {tree['version']}; expected {VERSION}: write the shards again"
            )
        return Index.model_validate(tree)
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError):
        raise ShardsError(f"{objects.url}/{INDEX}: not an index of shards, or damaged: write them again") from None


# --- writing ------------------------------------------------------------------------------------------------------------


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
        corpus: folder written by the stage `corpus`.
        url: a local folder, or a URL such as `s3://bucket/prefix`.
        shard_bytes: size at which the next shard begins.
        force: store every shard again, put the new index in the place of another one, and remove the shards that only
            that one names.
        progress: called with (shards done, shards).
        workers: processes, None for one a core.

    Raises:
        ObjectsError: the place cannot be reached or written to.
        CorpusError: no corpus there, or one without clips of a split.
        ShardsError: another set of shards is there and `force` is not given.
    """
    _library()
    planned = [part for split in _SPLITS for part in _plan(corpus, split, shard_bytes)]
    objects = open_objects(url)
    before = None if force else _found(objects)
    present = objects.sizes()
    # What is named to be replaced is stored again, for it may be damaged. Where there is another set, nothing is stored
    # before it is known whether the new one is the same.
    target = _Target(url, {} if force else present, before is None)
    made = parallel.run(_make, target, planned, workers, progress)
    by_split: dict[str, list[Shard]] = {"train": [], "valid": []}
    for part, (shard, _) in zip(planned, made, strict=True):
        by_split[part.split].append(shard)
    index = Index(train=tuple(by_split["train"]), valid=tuple(by_split["valid"]))
    if before is not None and before != index:
        raise ShardsError(f"{objects.url}: holds other shards ({before.digest[:12]}); give --force to replace them")
    if before is not None and all(present.get(shard.name) == shard.bytes for shard in index.shards):
        return Written(index, 0, False)
    if before is not None:
        made = parallel.run(_make, _Target(url, present, True), planned, workers, progress)
    _store_index(objects, index)
    for name in present.keys() - {shard.name for shard in index.shards}:
        if _NAMED.fullmatch(name):
            objects.remove(name)
    return Written(index, sum(new for _, new in made), True)


def _store_index(objects: Objects, index: Index) -> None:
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder) / INDEX
        path.write_text(index.text())
        objects.put(path, INDEX)


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
    objects = open_objects(target.url)
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder) / "shard.tar"
        _pack(part, path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        name = f"{part.split}-{part.number:05d}-{sha256[:12]}.tar"
        shard = Shard(name=name, samples=len(part.clips), bytes=path.stat().st_size, sha256=sha256)
        missing = target.present.get(name) != shard.bytes
        if missing and target.stored:
            objects.put(path, name)
    return shard, missing


def _pack(part: _Planned, path: Path) -> None:
    """The same bytes for the same samples, whoever writes them and when."""
    library = _library()
    with path.open("wb") as file, library.TarWriter(file, user="", group="", mtime=0, encoder=False) as writer:
        for number, clip in enumerate(part.clips, part.first):
            row = json.dumps(asdict(clip), ensure_ascii=False).encode()
            writer.write({"__key__": f"{number:06d}", "json": row, "flac": (part.corpus / clip.path).read_bytes()})


def _library() -> Any:
    try:
        return importlib.import_module("webdataset")
    except ImportError:
        raise ShardsError(
            "webdataset is not installed; expected the extra `shards`: pip install 'overtone[shards]'"
        ) from None
