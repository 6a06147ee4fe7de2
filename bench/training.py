"""How much audio does training get through, where does the time go, and how does that grow with the batch?

    python bench/training.py                       # both networks, settings of params.yaml
    python bench/training.py rnn --steps 20 --batches 16 --threads 1 2
    python bench/training.py --set train.cnn.width=128 --chart docs/pictures/bench-training.png

Needs work/pairs (dvc repro degrade). Prints seconds of audio trained a second and the loader's share of the time (what
a step waits for its batch; without loader processes, what making the batch takes), and compares in the same run: the
time of a step with that of the first network, and throughput with that of the first batch size and number of threads.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from overtone.data.crops import CropSampler
from overtone.training.datamodule import PairsModule
from torch.utils.data import DataLoader

import measure
from overtone import settings as params
from overtone.models import build
from overtone.training.module import UpsamplerModule

PAIRS = Path("work/pairs")
# Steps that are not counted: loader processes start, memory is claimed for the first time.
WARM_UP = 3


def time_steps(
    settings: params.Params, kind: str, pairs: PairsModule, batch: int, steps: int, workers: int
) -> tuple[float, float]:
    """(seconds of a step, seconds of it spent waiting for data), means after the warm-up.

    Means, not medians: with several loader processes batches come in bursts, and most steps wait for nothing.
    """
    train, rate = settings.train, settings.corpus.rate
    family = train.cnn if kind == "cnn" else train.rnn
    torch.manual_seed(settings.seed)
    module = UpsamplerModule(build.network(family, rate), family, train.loss, train.fit)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    loader = DataLoader(pairs.train, batch, sampler=CropSampler((steps + WARM_UP) * batch), num_workers=workers)
    whole, waited = 0.0, 0.0
    begun = time.perf_counter()
    for step, crops in enumerate(loader):
        arrived = time.perf_counter()
        loss, _ = module.loss_of(crops, step)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(module.parameters(), train.fit.clip_norm)
        optimizer.step()
        schedule.step()
        module.follow()
        ended = time.perf_counter()
        if step >= WARM_UP:
            whole += ended - begun
            waited += arrived - begun
        begun = ended
    return whole / steps, waited / steps


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("kinds", nargs="*", help="cnn, rnn (both)")
    parser.add_argument("--batches", nargs="+", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--threads", nargs="+", type=int, help="compute threads (train.fit.threads)")
    parser.add_argument("--workers", type=int, help="loader processes (as training chooses: train.data.workers)")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], help="dotted.key=value over params.yaml")
    given = parser.parse_args()
    kinds = given.kinds or ["cnn", "rnn"]
    if unknown := [kind for kind in kinds if kind not in ("cnn", "rnn")]:
        parser.error(f"{unknown[0]}: expected cnn or rnn")
    settings = params.load(overrides=tuple(given.set))
    pairs = PairsModule(settings, PAIRS)
    pairs.setup("fit")
    workers = pairs.workers if given.workers is None else given.workers
    crop = settings.train.data.crop_seconds

    lines: measure.Lines = {}
    first_kind: dict[tuple[int, int], float] = {}
    first_setting: dict[str, float] = {}
    columns = {"network": "<8", "threads": "d", "batch": "d", "step, s": ".3f", "audio s/s": ".1f", "waiting": ".0%"}
    columns |= {"step / first network": ".2f", "audio s/s / first setting": ".2f"}
    table = measure.Table(columns)
    for threads in given.threads or [settings.train.fit.threads or torch.get_num_threads()]:
        torch.set_num_threads(threads)
        for batch in given.batches:
            for kind in kinds:
                step, wait = time_steps(settings, kind, pairs, batch, given.steps, workers)
                speed = batch * crop / step
                versus = step / first_kind.setdefault((threads, batch), step)
                gain = speed / first_setting.setdefault(kind, speed)
                table.row(kind, threads, batch, step, speed, wait / step, versus, gain)
                lines.setdefault(f"{kind}, threads: {threads}", []).append((batch, speed))
    measure.chart(
        given.chart,
        {"": lines},
        title="Training throughput",
        x=f"batch (crops of {crop:g} s)",
        y="seconds of audio a second",
        log_y=False,
        note=f"loader processes: {workers}",
    )


if __name__ == "__main__":
    measure.start(main)
