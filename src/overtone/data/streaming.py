"""Training and validation from shards: which sample an example is, and how it is read."""

from __future__ import annotations

import functools
import io
import json
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from overtone import audio
from overtone.audio import Signal
from overtone.data.cache import Cache
from overtone.data.crops import Crop, Cutter, Excerpts, Stored
from overtone.data.pairs import Pair
from overtone.data.shards import Shard, ShardsError

# Shards whose tables of contents a process remembers, a few kilobytes each, and recordings of noise that it holds.
_CONTENTS = 1024
_RECORDINGS = 32


@dataclass(frozen=True)
class Place:
    """A sample: the epoch of the data that it belongs to, its shard, its place there, and its number among all."""

    epoch: int
    shard: int
    offset: int
    sample: int


class Numbering:
    """Which sample example number i is: each once an epoch of the data, whoever asks for it.

    An epoch of the data goes through the shards in a seeded order, and through the samples of each in one of its own. That
    sequence is cut into `slots` stretches of equal length (to one sample), and example i takes the next one of stretch
    i modulo `slots`. With as many slots as a batch has crops, each crop of a batch comes from another stretch; a process that
    takes every n-th crop of each batch keeps to its own stretches, and so to its own shards.

    The number decides everything: a training that goes on at number i, on any number of processes, sees what was not seen.

    Args:
        counts: samples of each shard.
        slots: crops of a batch, all processes together.
    """

    def __init__(self, counts: Sequence[int], seed: int, slots: int) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        self.seed = seed
        self.slots = slots
        self.total = int(self.counts.sum())
        self._first = np.cumsum(self.counts) - self.counts
        # Of a batch that goes over an epoch's end both are needed.
        self._epoch = functools.lru_cache(maxsize=2)(self._plan)
        self._within = functools.lru_cache(maxsize=4 * slots + 4)(self._shuffled)

    def __getstate__(self) -> dict[str, Any]:
        return {"counts": self.counts, "seed": self.seed, "slots": self.slots}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # what is remembered is not worth sending

    def __call__(self, number: int) -> Place:
        epoch = number // self.total
        order, ends, stretches = self._epoch(epoch)
        slot = number % self.slots
        # The first number of the epoch that belongs to the slot.
        begin = epoch * self.total
        before = (number - begin - (slot - begin) % self.slots) // self.slots
        position = int(stretches[slot]) + before
        turn = int(np.searchsorted(ends, position, side="right"))
        shard = int(order[turn])
        offset = int(self._within(epoch, shard)[position - (int(ends[turn]) - int(self.counts[shard]))])
        return Place(epoch, shard, offset, int(self._first[shard]) + offset)

    def _plan(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The order of the shards, where each ends in the epoch's sequence, and where each slot's stretch begins."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.counts))
        each, extra = divmod(self.total, self.slots)
        first = epoch * self.total % self.slots
        lengths = each + ((np.arange(self.slots) - first) % self.slots < extra)
        return order, np.cumsum(self.counts[order]), np.cumsum(lengths) - lengths

    def _shuffled(self, epoch: int, shard: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch, shard)).permutation(int(self.counts[shard]))


class Shelf:
    """The samples of a split's shards: their files by shard, place and extension."""

    def __init__(self, cache: Cache, shards: Sequence[Shard]) -> None:
        self.cache = cache
        self.shards = tuple(shards)
        self._ends = np.cumsum([shard.samples for shard in shards], dtype=np.int64)
        self._contents: OrderedDict[int, list[dict[str, tuple[int, int]]]] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def at(self, sample: int) -> tuple[int, int]:
        """Shard and place of a sample's number."""
        shard = int(np.searchsorted(self._ends, sample, side="right"))
        return shard, sample - int(self._ends[shard]) + self.shards[shard].samples

    def read(self, shard: int, offset: int, extension: str) -> bytes:
        """A file of a sample."""
        with self.cache.open(self.shards[shard]) as file:
            if shard not in self._contents:
                self._contents[shard] = self._listed(shard, file)
                if len(self._contents) > _CONTENTS:
                    self._contents.popitem(last=False)
            begin, size = self._contents[shard][offset][extension]
            file.seek(begin)
            return file.read(size)

    def row(self, shard: int, offset: int) -> dict[str, Any]:
        """The sample's row of the manifest."""
        row: dict[str, Any] = json.loads(self.read(shard, offset, "json"))
        return row

    def pair(self, shard: int, offset: int) -> Stored:
        """A pair whose audio is read when it is asked for."""
        try:
            pair = Pair(**self.row(shard, offset))
        except TypeError:
            raise ShardsError(
                f"{self.shards[shard].name}: rows of another version; expected the columns of a pair: write the shards again"
            ) from None
        return Stored(pair, self._finder(shard, offset))

    def _finder(self, shard: int, offset: int) -> Callable[[str], audio.Source]:
        return lambda which: io.BytesIO(self.read(shard, offset, f"{which}.flac"))

    def _listed(self, shard: int, file: Any) -> list[dict[str, tuple[int, int]]]:
        """Where the files of each sample lie in the shard, by extension."""
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    key, _, extension = member.name.partition(".")
                    samples.setdefault(key, {})[extension] = member.offset_data, member.size
        except tarfile.TarError as error:
            raise ShardsError(f"{self.shards[shard].name}: not a tar file: {error}; write the shards again") from None
        return list(samples.values())


class ShardCrops(Dataset[Crop]):
    """An endless set of crops, one of each pair in each epoch of the data, cut by a generator seeded with (seed, epoch, pair).

    Args:
        slots: crops of a batch, all processes together (see `Numbering`).
    """

    def __init__(self, shelf: Shelf, cutter: Cutter, seed: int, slots: int) -> None:
        self.shelf = shelf
        self.cutter = cutter
        self.seed = seed
        self.numbering = Numbering([shard.samples for shard in shelf.shards], seed, slots)

    def __getitem__(self, number: int) -> Crop:
        place = self.numbering(number)
        rng = np.random.default_rng((self.seed, place.epoch, place.sample))
        return self.cutter.crop(self.shelf.pair(place.shard, place.offset), rng)


class ShardCentres(Excerpts):
    """The middle of each pair of the validation shards."""

    def __init__(self, shelf: Shelf, samples: int) -> None:
        self.shelf = shelf
        self.samples = samples

    def __len__(self) -> int:
        return len(self.shelf)

    def stored(self, index: int) -> Stored:
        return self.shelf.pair(*self.shelf.at(index))


class ShardNoises(Sequence[Signal]):
    """Recordings of noise, read when they are asked for, the last few kept."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._kept: OrderedDict[int, Signal] = OrderedDict()

    def __len__(self) -> int:
        return len(self.shelf)

    @overload
    def __getitem__(self, index: int) -> Signal: ...

    @overload
    def __getitem__(self, index: slice) -> list[Signal]: ...

    def __getitem__(self, index: int | slice) -> Signal | list[Signal]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        if index not in self._kept:
            self._kept[index] = audio.decode(self.shelf.read(*self.shelf.at(index), "flac"))[0]
            if len(self._kept) > _RECORDINGS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]
