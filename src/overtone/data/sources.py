"""Where training data comes from: the folder of pairs of the stage `degrade`, or shards in a folder or below a URL."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from torch.utils.data import Dataset

from overtone.data.cache import LIMIT, Cache
from overtone.data.corpus import MANIFEST
from overtone.data.crops import Centres, Crop, Cutter, Excerpts, RandomCrops
from overtone.data.objects import Folder, open_objects
from overtone.data.pairs import PairsError, read_pairs, training_noise
from overtone.data.shards import INDEX, ShardsError, read_index
from overtone.data.streaming import ShardCentres, ShardCrops, ShardNoises, Shelf
from overtone.params import Params

# Validation listens to this much of each pair.
VALID_SECONDS = 2.0


class PairsSource:
    """The folder that the stage `degrade` writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self.shards_digest: str | None = None

    def identity(self) -> bytes:
        """The same for the same content, to tell trainings apart by."""
        return (self.folder / MANIFEST).read_bytes()

    def training(self, params: Params) -> Dataset[Crop]:
        """Crops by number; whatever the number of processes, all together ask for each number once."""
        data = params.train.data
        return RandomCrops(
            read_pairs(self.folder, "train"),
            self.folder,
            _crop_samples(params),
            params.seed,
            data.redraw,
            params.degrade,
            training_noise(self.folder),
        )

    def validation(self, params: Params) -> Excerpts:
        wanted = params.degrade.valid_conditions
        chosen = [pair for pair in read_pairs(self.folder, "valid") if pair.condition in wanted]
        return Centres(chosen, self.folder, _valid_samples(params))


class ShardsSource:
    """What `overtone shards` has written to a folder or a URL.

    Args:
        url: the place; behind an `@`, the digest that its index must have, or at least its first eight digits.

    Raises:
        ObjectsError: it cannot be reached.
        ShardsError: no shards there, or others than the digest names.
    """

    def __init__(self, url: str) -> None:
        self.name, wanted = _pinned(url)
        self._cache = Cache(open_objects(self.name))
        self.index = read_index(self._cache.objects)
        self.shards_digest: str | None = self.index.digest
        if not self.index.digest.startswith(wanted):
            raise ShardsError(f"{self.name}: its digest is {self.index.digest[:12]}; train.data.source wants {wanted}")

    def identity(self) -> bytes:
        return self.index.digest.encode()

    def training(self, params: Params) -> Dataset[Crop]:
        data = params.train.data
        noises = ShardNoises(Shelf(self._cache, self.index.noise))
        cutter = Cutter(_crop_samples(params), data.redraw, params.degrade, noises)
        sizes = sorted((shard.bytes for shard in self.index.train), reverse=True)
        used = sum(sizes[: data.batch]) + sum(shard.bytes for shard in (*self.index.valid, *self.index.noise))
        if used > self._cache.limit and not isinstance(self._cache.objects, Folder):
            warnings.warn(
                f"{self.name}: up to {used / 1e9:.1f} GB of shards are in use at a time, and the cache holds "
                f"{self._cache.limit / 1e9:g}: shards will be fetched again and again; raise {LIMIT}",
                stacklevel=2,
            )
        return ShardCrops(Shelf(self._cache, self.index.train), cutter, params.seed, data.batch)

    def validation(self, params: Params) -> Excerpts:
        return ShardCentres(Shelf(self._cache, self.index.valid), _valid_samples(params))


def recognise(source: str | Path) -> PairsSource | ShardsSource:
    """What is at a path or URL.

    Raises:
        ObjectsError: a URL that cannot be reached.
        PairsError: neither pairs nor shards.
        ShardsError: shards that cannot be used.
    """
    text = str(source)
    if "://" in text:
        return ShardsSource(text)
    if (Path(_pinned(text)[0]) / INDEX).is_file():
        return ShardsSource(text)
    if (Path(text) / MANIFEST).is_file():
        return PairsSource(Path(text))
    raise PairsError(
        f"{Path(text) / MANIFEST}: no such file, nor {INDEX} beside it; train.data.source expects the output of the stage "
        "degrade (dvc repro degrade), or a folder or URL that `overtone shards` wrote"
    )


def _pinned(url: str) -> tuple[str, str]:
    """A place and the digest that stands behind it, empty if there is none."""
    found = re.fullmatch(r"(.+)@([0-9a-f]{8,64})", url)
    return (found[1], found[2]) if found else (url, "")


def _crop_samples(params: Params) -> int:
    return round(params.train.data.crop_seconds * params.corpus.rate)


def _valid_samples(params: Params) -> int:
    return round(VALID_SECONDS * params.corpus.rate)
