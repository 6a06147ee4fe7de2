"""How fast do training crops come: from the folder of pairs, from shards in a folder, from shards in an object store?

    python bench/loading.py                     # the store: rclone on the loopback interface, where it is installed
    python bench/loading.py --url s3://bucket/prefix --crops 2000

Needs work/pairs (dvc repro degrade). All are measured in one run, in turns, with the settings of params.yaml and no loader
processes; a ratio is that of two lines of the same run. "Cold" counts the fetching of shards, "warm" finds them in the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import measure
from overtone import params
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


def crops_a_second(source: str, settings: params.Params, first: int, count: int) -> float:
    crops = sources.recognise(source).training(settings)
    begun = time.perf_counter()
    for number in range(first, first + count):
        crops[number]
    return count / (time.perf_counter() - begun)


def run(url: str | None, folder: Path, count: int, rounds: int, shard_mb: float) -> None:
    settings = params.load()
    os.environ[FOLDER] = str(folder / "cache")
    places = {"pairs in a folder": str(PAIRS), "shards in a folder": str(folder / "shards")}
    if url:
        places |= {"shards in a store, cold": url, "shards in a store, warm": url}
    for place in sorted({*places.values()} - {str(PAIRS)}):
        shards.write(PAIRS, place, round(shard_mb * 1e6))
    found: dict[str, list[float]] = {name: [] for name in places}
    for turn in range(rounds + 1):
        for name, place in places.items():
            if name.endswith("cold"):
                shutil.rmtree(folder / "cache", ignore_errors=True)
            speed = crops_a_second(place, settings, turn * count, count)
            # The first round reads the files into memory.
            if turn:
                found[name].append(speed)
    plain = statistics.median(found["pairs in a folder"])
    for name, speeds in found.items():
        middle = statistics.median(speeds)
        print(f"{name:26} {middle:7.1f} crops a second, {middle / plain:5.2f} of the pairs' folder")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", help="shards are written to and read from here instead of a store on this machine")
    options.add_argument("--crops", type=int, default=400, help="crops of a round")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--shard-mb", type=float, default=16.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="overtone-loading-") as name:
        folder = Path(name)
        with contextlib.nullcontext(given.url) if given.url else loopback(folder) as url:
            run(url, folder, given.crops, given.rounds, given.shard_mb)


if __name__ == "__main__":
    measure.start(main)
