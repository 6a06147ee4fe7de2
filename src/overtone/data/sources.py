"""Where networks learn from: the corpus's folder, or shards of it in a folder or below a URL. Neither offers the test split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from overtone import audio
from overtone.audio import Signal
from overtone.data.corpus import MANIFEST, Clip, CorpusError, read_manifest
from overtone.data.shards import INDEX, Place, ShardsError, Split, order, read_index, samples


class Source(Protocol):
    """Clips to learn from.

    Attributes:
        name: where they are.
        shards_digest: of the shards' index; None for a corpus.
    """

    name: str
    shards_digest: str | None

    def identity(self) -> bytes:
        """The same for the same content, to tell trainings apart by."""

    def clips(self, split: Split) -> Iterator[tuple[Clip, Signal]]:
        """All clips of a split by kind, source and name, each with its audio (channels, samples)."""


class CorpusSource:
    """The folder that the stage `corpus` writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self.shards_digest: str | None = None

    def identity(self) -> bytes:
        """The manifest, which has the digest of every clip."""
        return (self.folder / MANIFEST).read_bytes()

    def clips(self, split: Split) -> Iterator[tuple[Clip, Signal]]:
        """See `Source`."""
        for clip in sorted((clip for clip in read_manifest(self.folder) if clip.split == split), key=order):
            yield clip, audio.read(self.folder / clip.path)[0]


class ShardsSource:
    """What `overtone shards` has written to a folder or a URL.

    Args:
        url: the place; behind an `@`, the digest that its index must have, or at least its first eight digits.

    Raises:
        ShardsError: no shards there, others than the digest names, or a place that cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.name, wanted = _pinned(url)
        self._place = Place(self.name)
        self.index = read_index(self._place)
        self.shards_digest: str | None = self.index.digest
        if not self.index.digest.startswith(wanted):
            raise ShardsError(f"{self.name}: its digest is {self.index.digest[:12]}; train.data.source wants {wanted}")

    def identity(self) -> bytes:
        """The index's digest."""
        return self.index.digest.encode()

    def clips(self, split: Split) -> Iterator[tuple[Clip, Signal]]:
        """See `Source`.

        Raises:
            ShardsError: a shard is missing, damaged, of another version or cannot be reached.
        """
        for shard in getattr(self.index, split):
            for clip, content in samples(self._place, shard):
                yield clip, audio.decode(content)[0]


def recognise(source: str | Path) -> Source:
    """What is at a path or URL.

    Raises:
        CorpusError: neither a corpus nor shards.
        ShardsError: shards that cannot be used or reached.
    """
    text = str(source)
    if "://" in text or (Path(_pinned(text)[0]) / INDEX).is_file():
        return ShardsSource(text)
    if (Path(text) / MANIFEST).is_file():
        return CorpusSource(Path(text))
    raise CorpusError(
        f"{Path(text) / MANIFEST}: no such file, nor {INDEX} beside it; train.data.source expects the output of the stage "
        "corpus (dvc repro corpus), or a folder or URL that `overtone shards` wrote"
    )


def _pinned(url: str) -> tuple[str, str]:
    """A place and the digest that stands behind it, empty if there is none."""
    found = re.fullmatch(r"(.+)@([0-9a-f]{8,64})", url)
    return (found[1], found[2]) if found else (url, "")
