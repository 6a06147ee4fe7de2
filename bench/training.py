"""How much audio does one training step a network get through, and where does the time go?

    python bench/training.py                       # both networks, settings of params.yaml
    python bench/training.py rnn --steps 20 --set train.fit.threads=2

Needs work/pairs (dvc repro degrade). Prints seconds of audio trained a second, the loader's share of the time (what a step
waits for its batch), and the ratio of the two networks in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from overtone import losses, params
from overtone.data.crops import CropSampler, RandomCrops
from overtone.data.pairs import read_pairs
from overtone.models import build

PAIRS = Path("work/pairs")


def measure(settings: params.Params, kind: str, steps: int, workers: int) -> tuple[float, float]:
    """(seconds of a step, seconds of it spent waiting for data), medians after three warm-up steps."""
    data, rate = settings.train.data, settings.corpus.rate
    torch.manual_seed(settings.seed)
    network = build.network(settings.train.cnn if kind == "cnn" else settings.train.rnn, rate)
    optimizer = torch.optim.AdamW(network.parameters())
    crops = RandomCrops(
        read_pairs(PAIRS, "train"),
        PAIRS,
        round(data.crop_seconds * rate),
        settings.seed,
        data.redraw,
        settings.degrade.narrowband,
    )
    loader = DataLoader(crops, data.batch, sampler=CropSampler((steps + 3) * data.batch), num_workers=workers)
    whole, waits = [], []
    start = time.perf_counter()
    for batch in loader:
        waits.append(time.perf_counter() - start)
        output = network(batch["input"], batch["cutoff_hz"], batch["restore"])
        loss, _ = losses.total(output, batch["target"], batch["bandwidth_hz"], rate, settings.train.loss)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        whole.append(time.perf_counter() - start)
        start = time.perf_counter()
    return statistics.median(whole[3:]), statistics.median(waits[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["cnn", "rnn"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="dotted.key=value over params.yaml")
    given = parser.parse_args()
    settings = params.load(overrides=tuple(given.set))
    torch.set_num_threads(max(settings.train.fit.threads, 1))
    audio = settings.train.data.batch * settings.train.data.crop_seconds
    print(f"{'network':<10}{'step, s':>9}{'audio s/s':>11}{'waiting':>9}{'time / first':>14}")
    first = None
    for kind in given.kinds:
        step, wait = measure(settings, kind, given.steps, given.workers)
        first = first or step
        print(f"{kind:<10}{step:>9.3f}{audio / step:>11.1f}{wait / step:>9.0%}{step / first:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
