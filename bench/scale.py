"""Do time and memory of the stages stay in proportion to many files, and to one very long one?

    python bench/scale.py files                            # 1,250 to 10,000 short files through corpus and degrade
    python bench/scale.py hours                            # 1 and 10 hours in one file: corpus, degrade, enhance
    python bench/scale.py files --sizes 250 500
    python bench/scale.py hours --hours 0.1 0.5

Each row is a command of its own, run as a user runs it, in a project of its own in a temporary folder. Time is that of
all its processes on the processor, which others on the same cores disturb little; memory is the most that they held
together. The settings are those of params.yaml with less work a file: short clips and two conditions for many files,
16 kHz for the hours, an untrained network of width 16 for `enhance`. The last columns compare with the first row.
Status 1 if time grows by more than 1.3 times as much as the sound, or memory by more than 1.3 times.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import measure
from memory import in_fresh_process

MOST_GROWTH = 1.3
SHORT_SECONDS = 0.25
# Of a hundred short files.
KINDS = {"speech": 45, "music": 35, "noise": 20}
# Looking walks through a process's page tables, which costs as much as some files.
LOOK_SECONDS = 2.0
HOUR_RATE = 16_000
COMMANDS = ("enhance", "corpus", "degrade")
# The network of `enhance`.
SMALL = (
    "train.rnn.extend.width=16",
    "train.rnn.extend.layers=1",
    "train.rnn.restore.width=16",
    "train.rnn.restore.layers=1",
)


class Cost(NamedTuple):
    """Of a command with its processes: seconds of processor time and by the clock, MiB that they held together."""

    cpu: float
    wall: float
    mib: float


# --- material ---------------------------------------------------------------------------------------------------------


def write_short(folder: Path, count: int) -> None:
    """Files of different noise, spread over the kinds."""
    import numpy as np

    from overtone import audio

    kinds = [kind for kind, share in KINDS.items() for _ in range(share)]
    for index in range(count):
        signal = 0.1 * np.random.default_rng(index).standard_normal((1, round(SHORT_SECONDS * 48_000)))
        # 37 is prime to 100: every hundred files have their shares, and so has every part of the list.
        path = folder / kinds[37 * index % 100] / f"{index:05d}.wav"
        audio.write(path, signal.astype(np.float32), 48_000)


def write_long(path: Path, hours: float, seed: int) -> None:
    """One file of soft noise, block by block."""
    import numpy as np

    from overtone import audio

    path.parent.mkdir(parents=True, exist_ok=True)
    rng, left = np.random.default_rng(seed), round(hours * 3600 * HOUR_RATE)
    with audio.Writer(path, HOUR_RATE, 1, "FLAC", "PCM_16") as file:
        while left > 0:
            block = np.float32(0.003) * rng.standard_normal((1, min(left, audio.BLOCK_FRAMES)), dtype=np.float32)
            file.write(block)
            left -= block.shape[1]


def project(folder: Path, **changes: dict[str, Any]) -> Path:
    """A folder with params.yaml, changed in some of its groups."""
    import yaml

    tree = yaml.safe_load(Path("params.yaml").read_text())
    for group, values in changes.items():
        tree[group] |= values
    tree["degrade"]["conditions"] = {name: tree["degrade"]["conditions"][name] for name in ("sinc_8k", "noise_10db")}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder


# --- measuring --------------------------------------------------------------------------------------------------------


def cost(folder: Path, *command: object, code: str | None = None) -> Cost:
    """Run `overtone`, or a line of Python instead, in a folder.

    Raises:
        RuntimeError: it fails.
    """
    words = ["-c", code] if code else ["-m", "overtone", *map(str, command)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "OVERTONE_"))}
    settings = kept | {"OMP_NUM_THREADS": "1", "DVC_ROOT": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w+") as log:
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], cwd=folder, env=settings, stdout=log, stderr=log)
        most, next_look = 0.0, begun
        while True:
            # Not Popen.wait: the usage of a process is told once, to who waits for it, its own children's included.
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            if time.perf_counter() > next_look:
                most = max(most, resident(process.pid))
                next_look = time.perf_counter() + LOOK_SECONDS
            time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begun
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{' '.join(words)}: {log.read()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, most)


def resident(pid: int) -> float:
    """MiB that a process and its descendants hold together; pages that they share count once."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total / 2**20


class Rows:
    """The table of one question, and whether its promises were kept.

    Args:
        amount: heading of what grows from row to row.
    """

    def __init__(self, amount: str) -> None:
        columns = {"command": "<12", amount: "g", "CPU s": ".0f", "CPU ms each": ".1f", "by the clock, s": ".0f"}
        columns |= {"peak MiB": ".0f", "ms each / first": ".2f", "peak / first": ".2f"}
        self._table = measure.Table(columns)
        self._first: dict[str, tuple[float, float]] = {}
        self.kept = True

    def add(self, name: str, amount: float, count: float, found: Cost) -> None:
        """A command's cost for an amount, which is `count` of what a cost "each" is of."""
        each = 1000 * found.cpu / count
        first = self._first.setdefault(name, (each, found.mib))
        ratios = each / first[0], found.mib / first[1]
        self._table.row(name, amount, found.cpu, each, found.wall, found.mib, *ratios)
        self.kept &= max(ratios) <= MOST_GROWTH


# --- the two questions ------------------------------------------------------------------------------------------------


def files(scratch: Path, sizes: list[int]) -> Rows:
    """Many short files through the two stages that look at every one."""
    raw = scratch / "raw"
    in_fresh_process(write_short, raw, max(sizes))
    every = sorted(raw.rglob("*.wav"), key=lambda path: path.name)
    rows = Rows("files")
    for size in sizes:
        data = {"path": "data", "min_seconds": 0.1, "assign": {}}
        folder = project(scratch / str(size), corpus=data)
        for path in every[:size]:
            target = folder / "data" / path.relative_to(raw)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
        for stage in ("corpus", "degrade"):
            rows.add(stage, size, size, cost(folder, "stage", stage))
        in_fresh_process(remove, folder)
    return rows


def hours(scratch: Path, lengths: list[float], commands: list[str]) -> Rows:
    """One long file, with a few short ones so that no split is empty, through the stages and through `enhance`."""
    model = scratch / "model"
    in_fresh_process(save_small, model)
    rows = Rows("hours")
    for length in lengths:
        data = {
            "path": "data",
            "rate": HOUR_RATE,
            "min_bandwidth_hz": 1000.0,
            "assign": {"test": ["a"], "valid": ["b"]},
        }
        folder = project(scratch / f"{length:g}", corpus=data)
        for seed, name in enumerate(("a", "b")):
            write_long(folder / "data" / f"{name}.flac", 2 / 3600, seed)
        source = folder / "data" / "long.flac"
        in_fresh_process(write_long, source, length, 9)
        clips = math.ceil(length * 300)
        for command in commands:
            if command == "enhance":
                words: tuple[object, ...] = ("enhance", source, folder / "out.flac", "--model", model)
            else:
                words = ("stage", command)
            rows.add(command, length, clips, cost(folder, *words))
        in_fresh_process(remove, folder)
    return rows


def save_small(folder: Path) -> None:
    """A small untrained network for 48 kHz."""
    from overtone import settings as params
    from overtone.models.model import Model

    settings = params.load(overrides=SMALL)
    Model.untrained("rnn", settings.train.rnn, settings.corpus.rate).save(folder)
    (folder / "run.json").write_text(json.dumps({"run_id": "0" * 32, "model": "rnn"}))


def remove(folder: Path) -> None:
    """Make room for the next row."""
    import shutil

    shutil.rmtree(folder)


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("question", choices=["files", "hours"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_250, 2_500, 5_000, 10_000])
    parser.add_argument("--hours", nargs="+", type=float, default=[1.0, 10.0])
    parser.add_argument(
        "--commands", nargs="+", choices=COMMANDS, default=COMMANDS, help="of the hours; degrade needs corpus before it"
    )
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as name:
        rows = (
            files(Path(name), given.sizes)
            if given.question == "files"
            else hours(Path(name), given.hours, given.commands)
        )
    print(f"load average {os.getloadavg()[0]:.1f}")
    sys.exit(0 if rows.kept else 1)


if __name__ == "__main__":
    measure.start(main)
