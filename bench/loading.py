"""How fast do training crops come: from the folder of pairs, from shards in a folder, from shards in an object store?

    python bench/loading.py                     # the store: rclone on the loopback interface, where it is installed
    python bench/loading.py --url s3://bucket/prefix --rounds 5

Needs work/pairs (dvc repro degrade). All take the same crops in turns, crop by crop, in one process with the settings of
params.yaml; a ratio is that of two lines of the same run. "Cold" fetches every shard once an epoch of the data, "warm" finds
them in the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from overtone.data.crops import in_folder
from overtone.data.streaming import ShardCrops

import measure
from overtone import audio
from overtone import settings as params
from overtone.data import shards, sources
from overtone.data.cache import FOLDER

PAIRS = Path("work/pairs")


@contextlib.contextmanager
def loopback(folder: Path) -> Iterator[str | None]:
    """The URL of an S3-compatible store on this machine; None without rclone."""
    rclone = shutil.which("rclone")
    if rclone is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "objects" / "overtone").mkdir(parents=True)
    keys = {"AWS_ACCESS_KEY_ID": "an-access-key", "AWS_SECRET_ACCESS_KEY": "a-secret-access-key"}
    os.environ |= keys | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    os.environ |= {
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    options = [
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        ",".join(keys.values()),
        "--vfs-cache-mode",
        "off",
        "--config=",
    ]
    server = subprocess.Popen(
        [rclone, "serve", "s3", *options, folder / "objects"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        yield "s3://overtone/shards"
    finally:
        server.terminate()
        server.wait()


@dataclass
class Way:
    """One way to the same pairs, and the seconds that its crops took: reading both excerpts, and all of it."""

    crops: ShardCrops
    folder: Path | None = None
    reading: list[float] = field(default_factory=list)
    making: list[float] = field(default_factory=list)

    def take(self, number: int, seed: int) -> None:
        cutter = self.crops.cutter
        begun = time.perf_counter()
        place = self.crops.numbering(number)
        stored = self.crops.shelf.pair(place.shard, place.offset)
        if self.folder:
            stored = in_folder(stored.pair, self.folder)
            begun = time.perf_counter()
        start = max(stored.pair.frames - cutter.samples, 0) // 2
        for which in ("input", "target"):
            audio.read(stored.find(which), start, cutter.samples)
        self.reading.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        cutter.crop(stored, np.random.default_rng((seed, number)))
        self.making.append(time.perf_counter() - begun)


def opened(source: str, cache: Path, settings: params.Params) -> ShardCrops:
    os.environ[FOLDER] = str(cache)
    crops = sources.recognise(source).training(settings)
    assert isinstance(crops, ShardCrops)
    return crops


def run(url: str | None, folder: Path, rounds: int, shard_mb: float) -> None:
    settings, local = params.load(), str(folder / "shards")
    for place in filter(None, (local, url)):
        index = shards.write(PAIRS, place, round(shard_mb * 1e6)).index
    size = sum(shard.bytes for shard in index.train) / 1e6
    ways = {
        "pairs in a folder": Way(opened(local, folder, settings), PAIRS),
        "shards in a folder": Way(opened(local, folder, settings)),
    }
    if url:
        ways["shards in a store, cold"] = Way(opened(url, folder / "cold", settings))
        ways["shards in a store, warm"] = Way(opened(url, folder / "warm", settings))
    total = ways["pairs in a folder"].crops.numbering.total
    print(
        f"{total} pairs, {size:.0f} MB, {len(index.train)} shards; {rounds} epochs of the data, one before them not counted"
    )
    for epoch in range(rounds + 1):
        if (folder / "cold").is_dir():
            shutil.rmtree(folder / "cold")
        # Crop by crop, so that whatever else the machine does hits all alike.
        for number in range(epoch * total, (epoch + 1) * total):
            for way in ways.values():
                way.take(number, settings.seed)
    counted = {name: (sum(way.reading[total:]), sum(way.making[total:])) for name, way in ways.items()}
    plain, crops = sum(counted["pairs in a folder"]), rounds * total
    for name, (reading, making) in counted.items():
        share = (reading + making) / plain
        both = f"reading {1e3 * reading / crops:6.2f} ms, cutting and damaging {1e3 * making / crops:6.2f} ms a crop"
        print(f"{name:24} {both}; both {share:.2f} of the pairs' folder")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", help="shards are written to and read from here instead of a store on this machine")
    options.add_argument("--rounds", type=int, default=2, help="epochs of the data that are counted")
    options.add_argument("--shard-mb", type=float, default=16.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="overtone-loading-") as name:
        folder = Path(name)
        with contextlib.nullcontext(given.url) if given.url else loopback(folder) as url:
            run(url, folder, given.rounds, given.shard_mb)


if __name__ == "__main__":
    measure.start(main)
