"""Train one network of a released model for a time, in a process of one thread that can be ended and goes on.

    python released/train.py extend rnn OUT --corpus work/corpus --minutes 24
    python released/train.py restore rnn OUT --corpus work/corpus --minutes 30

It draws, mixes and scores as `overtone stage train` does (`overtone.training`), but its schedule follows processor time, not
steps. `OUT/extend-rnn.state` is what it goes on from, `OUT/extend-rnn.safetensors` the averaged weights that were the best
on the validation split so far, `OUT/extend-rnn.csv` the validation curve. `released/pack.py` makes a model folder of both.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from overtone import settings as params
from overtone.audio import replacing
from overtone.data.sources import recognise
from overtone.models.model import network
from overtone.training.recordings import recordings
from overtone.training.tasks import ExtendTask, RestoreTask, Task

ROOT = Path(__file__).parents[1]
# Steps between two validations, seconds between two states.
VALIDATION, STATE_SECONDS = 250, 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("extend", "restore"))
    parser.add_argument("family", choices=params.FAMILIES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", required=True, help="of stage corpus, or shards of one")
    parser.add_argument("--minutes", type=float, required=True, help="of processor time in all, earlier calls included")
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="a model folder of the family to begin with")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = params.load(ROOT / "params.yaml", tuple(options.set))
    torch.manual_seed(settings.seed)
    rate = settings.corpus.rate
    found = recordings(recognise(options.corpus), rate, options.out / "prepared")
    kind: Any = ExtendTask if options.task == "extend" else RestoreTask
    task: Task = kind(settings, found["train"], found["valid"])
    one = network(options.family, options.task, getattr(settings.train, options.family), rate)
    if options.start:
        held = load_file(options.start / "weights.safetensors")
        mine = f"{options.task}."
        one.load_state_dict({name.removeprefix(mine): value for name, value in held.items() if name.startswith(mine)})
    train(task, one, settings, options.minutes * 60, options.out / f"{options.task}-{options.family}")


def train(task: Task, one: torch.nn.Module, settings: params.Params, seconds: float, out: Path) -> None:
    """Train until `seconds` of processor time are spent, those of earlier calls included."""
    mine: Any = task.settings  # type: ignore[attr-defined]
    averaged = AveragedModel(one, multi_avg_fn=get_ema_multi_avg_fn(settings.train.fit.average))
    optimiser = torch.optim.AdamW(one.parameters(), mine.learning_rate, weight_decay=settings.train.fit.weight_decay)
    step, before, kept, best = 0, 0.0, 0.0, -math.inf
    state = out.with_suffix(".state")
    if state.is_file():
        held = torch.load(state, weights_only=True)
        for part, content in ((one, held["network"]), (averaged, held["average"]), (optimiser, held["optimiser"])):
            part.load_state_dict(content)
        step, before, best = held["step"], held["seconds"], held["best"]
    began = time.process_time()

    def run(network: Any) -> Any:
        def forward(*given: torch.Tensor) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=network.training):
                return network(*given, network.body.initial(len(given[0])))

        return forward

    while (spent := before + time.process_time() - began) < seconds:
        warm = min(1.0, (step + 1) / settings.train.fit.warmup_steps)
        for group in optimiser.param_groups:
            group["lr"] = mine.learning_rate * warm * (0.5 * (1 + math.cos(math.pi * spent / seconds)) + 0.01)
        loss, _ = task.loss(run(one), task.draw(step, range(mine.batch)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(one.parameters(), mine.clip_norm)
        optimiser.step()
        averaged.update_parameters(one)
        step += 1
        if spent - kept > STATE_SECONDS:
            kept = spent
            content = {
                "network": one.state_dict(),
                "average": averaged.state_dict(),
                "optimiser": optimiser.state_dict(),
            }
            with replacing(state) as path:
                torch.save({**content, "step": step, "seconds": spent, "best": best}, path)
        if step % VALIDATION == 0:
            best = judge(task, averaged.module, run, step, spent, out, best)
    judge(task, averaged.module, run, step, seconds, out, best)


def judge(task: Task, averaged: Any, run: Any, step: int, spent: float, out: Path, best: float) -> float:
    """Write a row of the validation curve, and the averaged weights if they are the best; returns what the best are worth."""
    averaged.eval()
    with torch.no_grad():
        values = [float(task.validate(run(averaged), index)[task.monitor]) for index in range(task.excerpts())]
    averaged.train()
    mean = sum(values) / len(values)
    worth = mean if task.mode == "max" else -mean
    if worth > best:
        with replacing(out.with_suffix(".safetensors")) as path:
            save_file(averaged.state_dict(), path)
    row = {"task": task.name, "step": step, "minutes": round(spent / 60, 1), task.monitor: mean}
    print(row, flush=True)
    curve = out.with_suffix(".csv")
    new = not curve.is_file()
    with curve.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
    return max(worth, best)


if __name__ == "__main__":
    main()
