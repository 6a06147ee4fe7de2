"""How much audio does a run over many files get through, on one process, on several, and on Ray?

    python bench/bulk.py models/rnn
    python bench/bulk.py --untrained --files 500 --seconds 0.3 --jobs 1 2 --engines local ray

Each row is one `overtone enhance` of the same folder of noise (16 kHz mono FLAC) into a fresh one, as a process of its own: its
start, and Ray's, are counted. `working` is the run's own figure, from its plan to its last file.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import measure
from overtone import audio
from overtone.errors import OvertoneError

RATE = 16_000


def main() -> None:
    parser = measure.parser(__doc__)
    measure.add_networks(parser)
    parser.set_defaults(models=[Path("models/rnn")], runtimes=["onnx"])
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a file")
    parser.add_argument("--jobs", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--engines", nargs="+", choices=["local", "ray"], default=["local", "ray"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folders = measure.network_folders(given.models, given.untrained, given.set, given.runtimes, scratch / "models")
        rng = np.random.default_rng(0)
        for index in range(given.files):
            signal = (0.1 * rng.standard_normal((1, round(given.seconds * RATE)))).astype(np.float32)
            audio.write(scratch / "in" / f"{index:05}.flac", signal, RATE)
        formats = {"network": "<12", "engine": "<6", "jobs": "d", "time, s": ".1f", "working, s": ".1f"}
        table = measure.Table(formats | {"files/s": ".2f", "x real time": ".1f", "speed / first": ".2f"})
        for number, (network, folder) in enumerate(folders.items()):
            first = None
            for engine in given.engines:
                for jobs in given.jobs:
                    out = scratch / f"out-{number}-{engine}-{jobs}"
                    whole, working = _run(folder, scratch / "in", out, engine, jobs)
                    first = first or working
                    heard = given.files * given.seconds
                    speeds = given.files / working, heard / working, first / working
                    table.row(network, engine, jobs, whole, working, *speeds)


def _run(model: Path, source: Path, out: Path, engine: str, jobs: int) -> tuple[float, float]:
    """Seconds of the whole process, and those that its own table names."""
    options = ["--engine", engine, "--jobs", str(jobs), "--model", str(model)]
    command = [sys.executable, "-m", "overtone", "enhance", str(source), str(out), *options]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - begun
    told = re.search(r"time\W+([\d.]+) s", done.stdout)
    if done.returncode or told is None:
        raise OvertoneError(f"overtone enhance failed: {done.stderr.strip()}")
    return whole, float(told[1])


if __name__ == "__main__":
    measure.start(main)
