"""How does training scale over processes, and where would it stop on many GPUs?

    python bench/scaling.py                                  # both networks, 1 and 2 processes of this machine
    python bench/scaling.py rnn --processes 1 2 4 --steps 10
    python bench/scaling.py --gpu-step-ms 20 --links-gbps 25 400

Needs work/pairs (dvc repro degrade). Measured: steps of DistributedDataParallel (gloo, one compute thread and one loader
a process) at a fixed share of the batch a process, and how long one loader takes for a crop. On paper: 8 to 512 GPUs from
the time of a step, the size of the gradients and the speed of the link, by the cost of a ring all-reduce, with nothing
hidden behind the computation; and how many cores must load for each GPU.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from overtone.data.crops import Crop, CropSampler
from overtone.training.datamodule import PairsModule
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import measure
from overtone import settings as params
from overtone.models import build
from overtone.training.module import UpsamplerModule

PAIRS = Path("work/pairs")
WARM_UP = 2
GPUS = (1, 8, 16, 32, 64, 128, 256, 512)
# Time that a message takes to get going, from one process to the next of the ring.
LATENCY_SECONDS = 10e-6


class Loss(nn.Module):
    """What is differentiated, as one module: gradients are exchanged as they come."""

    def __init__(self, module: UpsamplerModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Crop, step: int) -> Tensor:
        return self.module.loss_of(batch, step)[0]


def ring_all_reduce(processes: int, size: float, bytes_per_second: float, latency: float = LATENCY_SECONDS) -> float:
    """Seconds in which all processes have the sum of `size` bytes (Patarasuk and Yuan 2009, equation 2)."""
    rounds = 2 * (processes - 1)
    return rounds * (latency + size / processes / bytes_per_second) if processes > 1 else 0.0


def work(rank: int, world: int, port: int, kind: str, overrides: tuple[str, ...], steps: int, out: str) -> None:
    """One process of a job: the median time of a step, from the first one's."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    settings = params.load(overrides=overrides)
    module, pairs = trainable(settings, kind)
    parallel = DistributedDataParallel(Loss(module))
    optimizer = module.configure_optimizers()["optimizer"]
    batch = settings.train.data.batch
    sampler = CropSampler((steps + WARM_UP) * batch * world, rank, world)
    times = []
    begun = time.perf_counter()
    for crops in DataLoader(pairs.train, batch, sampler=sampler, num_workers=1):
        loss = parallel(crops, len(times))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        module.follow()
        ended = time.perf_counter()
        times.append(ended - begun)
        begun = ended
    if rank == 0:
        Path(out).write_text(repr(statistics.median(times[WARM_UP:])))
    torch.distributed.destroy_process_group()


def trainable(settings: params.Params, kind: str) -> tuple[UpsamplerModule, PairsModule]:
    family = settings.train.cnn if kind == "cnn" else settings.train.rnn
    torch.manual_seed(settings.seed)
    pairs = PairsModule(settings, PAIRS)
    pairs.setup("fit")
    return UpsamplerModule(
        build.network(family, settings.corpus.rate), family, settings.train.loss, settings.train.fit
    ), pairs


def step_seconds(processes: int, kind: str, overrides: tuple[str, ...], steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        out = str(Path(folder) / "seconds")
        arguments = (processes, port, kind, overrides, steps, out)
        torch.multiprocessing.spawn(work, arguments, nprocs=processes)
        return float(Path(out).read_text())


def crop_seconds(pairs: PairsModule, count: int) -> float:
    """What making one crop takes one core."""
    begun = time.perf_counter()
    for number in range(count):
        pairs.train[number]
    return (time.perf_counter() - begun) / count


def on_paper(given: argparse.Namespace, kind: str, size: int, step: float, crop: float, batch: int) -> None:
    print(
        f"\n{kind}, on paper: step {1000 * step:.0f} ms of {batch} crops a GPU, gradients {size / 1e6:.1f} MB, "
        f"a crop takes a loading core {1000 * crop:.1f} ms: {batch * crop / step:.1f} cores a GPU"
    )
    columns = {"GPUs": "d", "link, Gbit/s": "g", "all-reduce, ms": ".1f", "share of a step": ".0%", "speed-up": ".0f"}
    table = measure.Table(columns)
    for link in given.links_gbps:
        for gpus in GPUS:
            exchange = ring_all_reduce(gpus, size, link * 1e9 / 8)
            table.row(gpus, link, 1000 * exchange, exchange / (step + exchange), gpus * step / (step + exchange))


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("kinds", nargs="*", help="cnn, rnn (both)")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--links-gbps", nargs="+", type=float, default=[25.0, 400.0], help="speed of a link, Gbit/s")
    parser.add_argument("--gpu-step-ms", type=float, help="time of a GPU's step, if known; else the one measured here")
    parser.add_argument("--set", action="append", default=[], help="dotted.key=value over params.yaml")
    given = parser.parse_args()
    kinds = given.kinds or ["cnn", "rnn"]
    if unknown := [kind for kind in kinds if kind not in ("cnn", "rnn")]:
        parser.error(f"{unknown[0]}: expected cnn or rnn")
    overrides = tuple(given.set)
    settings = params.load(overrides=overrides)
    batch, crop_length = settings.train.data.batch, settings.train.data.crop_seconds
    lines: measure.Lines = {}
    alone: dict[str, float] = {}
    columns = {"network": "<8", "processes": "d", "step, s": ".3f", "audio s/s": ".1f", "speed-up": ".2f"}
    table = measure.Table(columns)
    for kind in kinds:
        for processes in given.processes:
            step = step_seconds(processes, kind, overrides, given.steps)
            speed = processes * batch * crop_length / step
            first = alone.setdefault(kind, step)
            table.row(kind, processes, step, speed, processes * first / step / given.processes[0])
            lines.setdefault(kind, []).append((processes, speed))
    for kind in kinds:
        module, pairs = trainable(settings, kind)
        size = sum(4 * parameter.numel() for parameter in module.network.parameters())
        step = given.gpu_step_ms / 1000 if given.gpu_step_ms else alone[kind]
        on_paper(given, kind, size, step, crop_seconds(pairs, 4 * batch), batch)
    measure.chart(
        given.chart,
        {"": lines},
        title="Training on several processes",
        x=f"processes ({batch} crops of {crop_length:g} s each)",
        y="seconds of audio a second",
        log_y=False,
    )


if __name__ == "__main__":
    measure.start(main)
