"""How fast is inference, and how does its cost grow with length?

    python bench/inference.py                      # models/cnn and models/rnn, one thread
    python bench/inference.py --seconds 1 10 --threads 2

Prints, for each system and length, the median real-time factor (seconds of audio a second of computing; array to array,
16 -> 48 kHz mono, resampling included) and its ratio to sinc interpolation in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from overtone.models.baselines import Sinc, SpectralBandReplication
from overtone.upsample import Upsampler

RATE = 16_000


def seconds_of(system: Any, signal: np.ndarray[Any, Any], runs: int) -> float:
    """Median time of one call, after one that is not counted."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        system.enhance(signal, RATE)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, default=[Path("models/cnn"), Path("models/rnn")])
    parser.add_argument("--seconds", nargs="+", type=float, default=[1.0, 10.0, 60.0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    systems: dict[str, Any] = {"sinc": Sinc(), "sbr": SpectralBandReplication()}
    systems |= {str(folder): Upsampler.load(folder) for folder in given.models}
    rng = np.random.default_rng(0)
    print(f"{'system':<16}{'length, s':>10}{'x real time':>13}{'time / sinc':>13}")
    for length in given.seconds:
        signal = (0.1 * rng.standard_normal((1, round(length * RATE)))).astype(np.float32)
        base = None
        for name, system in systems.items():
            taken = seconds_of(system, signal, given.runs)
            base = base or taken
            print(f"{name:<16}{length:>10g}{length / taken:>13.1f}{taken / base:>13.1f}", flush=True)


if __name__ == "__main__":
    main()
