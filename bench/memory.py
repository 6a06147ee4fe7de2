"""How much memory does a file take, and does it grow with the file's length?

    python bench/memory.py                         # 10 s, 1 min and 10 min; models/cnn and models/rnn, torch and ONNX
    python bench/memory.py --untrained --runtimes torch --seconds 10 60 600 3600
    python bench/memory.py models/rnn --whole

Enhances stereo noise (16 -> 48 kHz, FLAC to FLAC, made in a temporary folder) with `Upsampler.enhance_file`, each file
in a fresh process. Prints that process's peak resident memory, what of it the loaded network and its libraries hold,
and the ratio of the peak to that of the first length; with --whole also that of reading the file, enhancing the array
and writing it, for comparison: this does grow, by several times the audio.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import measure

RATE = 16_000
CHANNELS = 2


class Use(NamedTuple):
    """Of one process: MiB when the network was loaded, MiB at the peak, seconds of enhancing."""

    loaded: float
    peak: float
    seconds: float


def enhance(folder: Path, runtime: Any, threads: int, source: Path, target: Path, whole: bool) -> Use:
    """Enhance a file in this process."""
    import torch

    from overtone import audio
    from overtone.enhance.upsampler import Upsampler

    torch.set_num_threads(threads)
    upsampler = Upsampler.load(folder, runtime=runtime)
    loaded = peak()
    begun = time.perf_counter()
    if whole:
        signal, rate = audio.read(source)
        audio.write(target, upsampler.enhance(signal, rate), upsampler.rate)
    else:
        upsampler.enhance_file(source, target)
    return Use(loaded, peak(), time.perf_counter() - begun)


def peak() -> float:
    """The most memory that this process ever held, MiB."""
    # In KiB, but on macOS in bytes.
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def write_noise(path: Path, length: float) -> None:
    """Stereo noise, block by block: the process that starts the others has to stay small."""
    import numpy as np

    from overtone import audio

    rng = np.random.default_rng(0)
    left = round(length * RATE)
    with audio.Writer(path, RATE, CHANNELS, "FLAC", "PCM_16") as file:
        while left > 0:
            block = (0.1 * rng.standard_normal((CHANNELS, min(left, audio.BLOCK_FRAMES)))).astype(np.float32)
            file.write(block)
            left -= block.shape[1]


def in_fresh_process(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call gives, made in a process that has done nothing else.

    A system may count what the starting process holds as the new one's own peak, so this one imports no torch.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def main() -> None:
    parser = measure.parser(__doc__)
    measure.add_networks(parser)
    parser.add_argument("--seconds", nargs="+", type=float, default=[10.0, 60.0, 600.0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--whole", action="store_true", help="also the whole file as one array")
    given = parser.parse_args()
    columns = {"system": "<20", "by": "<7", "length, s": "g", "loaded, MiB": ".0f", "peak, MiB": ".0f"}
    columns |= {"peak / first length": ".2f", "x real time": ".1f"}
    with tempfile.TemporaryDirectory() as scratch:
        sources = {length: Path(scratch, f"{length:g}.flac") for length in given.seconds}
        for length, source in sources.items():
            write_noise(source, length)
        folders: dict[str, Path] = in_fresh_process(
            measure.network_folders, given.models, given.untrained, given.set, given.runtimes, Path(scratch)
        )
        table = measure.Table(columns)
        for name, folder in folders.items():
            for runtime in given.runtimes:
                for way in ("blocks", "whole") if given.whole else ("blocks",):
                    first: float | None = None
                    for length, source in sources.items():
                        target = Path(scratch, "out.flac")
                        arguments = (folder, runtime, given.threads, source, target, way == "whole")
                        use: Use = in_fresh_process(enhance, *arguments)
                        first = first or use.peak
                        ratio, speed = use.peak / first, length / use.seconds
                        table.row(f"{name} {runtime}", way, length, use.loaded, use.peak, ratio, speed)


if __name__ == "__main__":
    measure.start(main)
