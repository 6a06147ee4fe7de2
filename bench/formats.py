"""Two streaming formats, LitData and WebDataset: how fast are they read, is each sample seen once, can a reading go on?

    pip install litdata webdataset
    python bench/formats.py                   # both
    python bench/formats.py webdataset

Needs nothing else: the samples are made up, 600 of 64 kB in three shards. Each format is read by its own loader with its own
means of sharing out and of going on; nothing of Overtone's reading is used. docs/shards.md has what came of it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

COUNT, SIZE, SHARD = 600, 64_000, 14_000_000
BATCH = 4
# (processes, loader processes of each)
LAYOUTS = ((1, 0), (1, 2), (2, 1), (2, 2), (7, 0))

# (processes, process, loader processes, epoch) -> (number of the sample) in order
Reader = Callable[[int, int, int, int], Iterator[int]]


def sample(index: int) -> dict[str, Any]:
    return {"index": index, "audio": np.random.default_rng(index).bytes(SIZE)}


def write_litdata(folder: Path) -> None:
    import litdata

    litdata.optimize(sample, list(range(COUNT)), str(folder), chunk_bytes=SHARD, num_workers=1, verbose=False)


def write_webdataset(folder: Path) -> None:
    import webdataset

    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxsize=SHARD, verbose=0, mtime=0) as writer:
        for index in range(COUNT):
            made = sample(index)
            writer.write({"__key__": f"{index:06d}", "bin": made["audio"]})


def litdata_loader(folder: Path, world: int, rank: int, workers: int) -> Any:
    import litdata
    from litdata.utilities.env import _DistributedEnv

    dataset = litdata.StreamingDataset(str(folder), shuffle=True, seed=1)
    # What torch.distributed would have said.
    dataset.distributed_env = _DistributedEnv(world, rank, 1)
    if world > 1:
        dataset.drop_last = True
    return litdata.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=list)


def litdata_reader(folder: Path) -> Reader:
    def read(world: int, rank: int, workers: int, epoch: int) -> Iterator[int]:
        loader = litdata_loader(folder, world, rank, workers)
        for _ in range(epoch):
            deque(loader, maxlen=0)
        for batch in loader:
            yield from (one["index"] for one in batch)

    return read


def webdataset_reader(folder: Path) -> Reader:
    import webdataset

    def read(world: int, rank: int, workers: int, epoch: int) -> Iterator[int]:
        os.environ |= {"WORLD_SIZE": str(world), "RANK": str(rank)}
        shards = sorted(str(path) for path in folder.glob("*.tar"))
        dataset = webdataset.WebDataset(
            shards,
            nodesplitter=webdataset.split_by_node,
            shardshuffle=len(shards),
            detshuffle=True,
            seed=1,
            empty_check=False,
        ).compose(webdataset.detshuffle(100, seed=1))
        # Its shuffles count the times that they are begun.
        for _ in range(epoch):
            deque(dataset, maxlen=0)
        for batch in webdataset.WebLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=list):
            yield from (int(one["__key__"]) for one in batch)

    return read


def told_once(read: Reader, world: int, workers: int) -> str:
    """How many samples the processes together saw not once, and how many the busiest has more than the idlest."""
    each = []
    for rank in range(world):
        try:
            each.append(list(read(world, rank, workers, 0)))
        except Exception as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    seen = Counter(index for part in each for index in part)
    missed, twice = COUNT - len(seen), sum(count > 1 for count in seen.values())
    lengths = [len(part) for part in each]
    return f"missed {missed}, seen twice {twice}, uneven by {max(lengths) - min(lengths)}"


def went_on(folder: Path, before: int, after: int) -> str:
    """LitData's own resume after 30 batches with one number of loader processes, by another."""
    loader = litdata_loader(folder, 1, 0, before)
    heard: list[int] = []
    batches = iter(loader)
    for _ in range(30):
        heard += [one["index"] for one in next(batches)]
    state = loader.state_dict()
    del batches
    other = litdata_loader(folder, 1, 0, after)
    try:
        other.load_state_dict(state)
        rest = [one["index"] for batch in other for one in batch]
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    seen = Counter(heard + rest)
    undisturbed = [one["index"] for batch in litdata_loader(folder, 1, 0, before) for one in batch]
    twice = sum(count > 1 for count in seen.values())
    return f"missed {COUNT - len(seen)}, seen twice {twice}, same order {rest == undisturbed[len(heard) :]}"


def short_epochs(folder: Path) -> str:
    """As Lightning does with `limit_train_batches`: the loader begun anew every 30 batches, five times."""
    loader = litdata_loader(folder, 1, 0, 0)
    heard: list[int] = []
    for _ in range(5):
        for number, batch in enumerate(loader):
            heard += [one["index"] for one in batch]
            if number == 29:
                break
    return f"{len(set(heard))} different ones of {len(heard)} samples; once each would be {COUNT}"


def speed(read: Reader, workers: int) -> float:
    """Samples a second after the first batch: loader processes start slowly."""
    samples = read(1, 0, workers, 0)
    for _ in range(BATCH):
        next(samples)
    begun = time.perf_counter()
    count = sum(1 for _ in samples)
    return count / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help="which of them")
    names = parser.parse_args().formats or ["litdata", "webdataset"]
    folder = Path(tempfile.mkdtemp(prefix="overtone-formats-"))
    known = {"litdata": (write_litdata, litdata_reader), "webdataset": (write_webdataset, webdataset_reader)}
    readers: dict[str, Reader] = {}
    try:
        for name in names:
            write, reader = known[name]
            write(folder / name)
            readers[name] = reader(folder / name)
            speed(readers[name], 0)
        for name, read in readers.items():
            print(f"{name}: {speed(read, 0):.0f} samples a second, with 2 loader processes {speed(read, 2):.0f}")
        for name, read in readers.items():
            same = list(read(1, 0, 2, 0)) == list(read(1, 0, 2, 0))
            other = list(read(1, 0, 0, 0)) != list(read(1, 0, 0, 1))
            print(f"{name}: same order for the same seed {same}, another one in the next epoch {other}")
            for world, workers in LAYOUTS:
                print(
                    f"  {world} processes x {workers} loader processes: {told_once(read, world, workers)}", flush=True
                )
        if "litdata" in names:
            for before, after in ((0, 0), (2, 2), (2, 1), (2, 0)):
                came = went_on(folder / "litdata", before, after)
                print(f"litdata goes on, {before} -> {after} loader processes: {came}", flush=True)
            print(f"litdata, epochs shorter than the data: {short_epochs(folder / 'litdata')}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
