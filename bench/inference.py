"""How fast is inference, and how does its cost grow with length?

    python bench/inference.py                      # models/cnn and models/rnn, one thread
    python bench/inference.py --untrained --seconds 1 10 --threads 2

Prints, for each system and length, the median real-time factor (seconds of audio a second of computing; array to array,
16 -> 48 kHz mono, resampling included), the ratio of its time to that of sinc interpolation, and for a network as ONNX
graph to that of the same network in torch, all in the same run.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import measure
from overtone.enhance.upsampler import Upsampler
from overtone.evaluation.baselines import Sinc, SpectralBandReplication

RATE = 16_000


def main() -> None:
    parser = measure.parser(__doc__)
    measure.add_networks(parser)
    parser.add_argument("--seconds", nargs="+", type=float, default=[1.0, 10.0, 60.0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    # Before the networks are loaded: a session of a graph takes its threads from torch.
    torch.set_num_threads(given.threads)
    systems: dict[str, Any] = {"sinc": Sinc(), "sbr": SpectralBandReplication()}
    with tempfile.TemporaryDirectory() as scratch:
        folders = measure.network_folders(given.models, given.untrained, given.set, given.runtimes, Path(scratch))
        for name, folder in folders.items():
            systems |= {f"{name} {kind}": Upsampler.load(folder, runtime=kind) for kind in given.runtimes}

    rng = np.random.default_rng(0)
    columns = {"system": "<20", "length, s": "g", "x real time": ".1f", "time / sinc": ".1f", "time / torch": ".2f"}
    table = measure.Table(columns)
    for length in given.seconds:
        signal = (0.1 * rng.standard_normal((1, round(length * RATE)))).astype(np.float32)
        taken: dict[str, float] = {}
        for name, system in systems.items():
            taken[name] = measure.seconds(functools.partial(system.enhance, signal, RATE), given.runs)
            eager = taken.get(f"{name.removesuffix(' onnx')} torch") if name.endswith(" onnx") else None
            relative = taken[name] / eager if eager else None
            table.row(name, length, length / taken[name], taken[name] / taken["sinc"], relative)


if __name__ == "__main__":
    measure.start(main)
