"""What is each choice worth? Trains variants of the settings with several seeds each, compared on the validation split.

    python bench/ablation.py                                  # every variant, 3 seeds, the steps of params.yaml
    python bench/ablation.py reference snr-loss --seeds 5 --set train.extend.steps=150
    python bench/ablation.py --list                           # the variants and the settings that they change

Needs work/corpus and work/pairs (dvc repro degrade). A row compares a variant with the settings as they are, both of one
family: the change of the figure, its 95 % interval over sources, where each source's scores are means over the seeds, and
how much the seeds differ (standard deviation of a training's mean). A change is one only where its interval excludes zero.
"""

from __future__ import annotations

import contextlib
import io
import statistics as plain
import tempfile
from dataclasses import replace
from pathlib import Path

import measure
from overtone import settings
from overtone.data.pairs import read_pairs
from overtone.enhance.upsampler import Upsampler
from overtone.evaluation import statistics
from overtone.evaluation.judge import judge
from overtone.evaluation.statistics import Row
from overtone.training.fit import train

CORPUS, PAIRS = "work/corpus", Path("work/pairs")
# Task -> the conditions it is judged on, and figures as (kind, metric).
TASKS = {
    "extend": (("sinc_8k", "sinc_16k"), (("speech", "lsd"), ("music", "lsd"), ("speech", "bias_hf_db"))),
    "restore": (("noise_5db", "noise_10db"), (("speech", "si_sdr"), ("speech", "lsd_lf"))),
}
# Task and what is changed of the settings.
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "no-brightness": ("extend", ("train.extend.ranges.raw_brightness=[0,0]",)),
    "no-tilt": ("extend", ("train.extend.ranges.tilt=[0,0]",)),
    "no-floors": ("extend", ("train.extend.ranges.floor=[-8.5,-8.5]", "train.extend.ranges.raw_floor=[-6,-6]")),
    "no-reference": ("extend", ("train.extend.ranges.reference=0",)),
    "mse-loss": ("restore", ("train.restore.loss=mse",)),
    "no-pauses": ("restore", ("train.restore.mixing.pauses=0",)),
    "no-babble": ("restore", ("train.restore.mixing.babble=0",)),
}


def trained(family: str, task: str, seed: int, changes: tuple[str, ...]) -> list[Row]:
    """The blind scores on the validation split, which chooses, of a network trained with changed settings."""
    params = settings.load(overrides=(f"seed={seed}", *changes))
    plan = params.evaluate.model_copy(update={"visqol": ()})
    pairs = [pair for pair in read_pairs(PAIRS, "valid") if pair.condition in TASKS[task][0]]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "model")
        with contextlib.redirect_stdout(io.StringIO()):
            train(params, family, CORPUS, out, Path(folder, "checkpoints"), tasks=(task,))
        upsampler = Upsampler.load(out)
    return list(judge(family, lambda: upsampler, pairs, PAIRS, plan, workers=1).rows)


def averaged(runs: list[list[Row]]) -> list[Row]:
    """Rows of the same clips, their scores the means over trainings."""
    return [
        replace(rows[0], scores={name: plain.fmean(row.scores[name] for row in rows) for name in rows[0].scores})
        for rows in zip(*runs, strict=True)
    ]


def spread(runs: list[list[Row]], kind: str, metric: str) -> float | None:
    """Standard deviation of a figure over trainings."""
    found = [one.mean for run in runs if (one := statistics.figure(run, kind, metric))]
    return plain.stdev(found) if len(found) > 1 else None


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--families", nargs="+", default=["cnn", "rnn"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="dotted.key=value over params.yaml, for all")
    parser.add_argument("--list", action="store_true", help="name the variants and stop")
    given = parser.parse_args()
    if unknown := [name for name in given.variants if name not in VARIANTS]:
        parser.error(f"{unknown[0]}: no such variant; expected some of {', '.join(VARIANTS)}")
    if given.list:
        for name, (task, changes) in VARIANTS.items():
            print(f"{name:<16}{task:<9}{' '.join(changes)}")
        return
    formats = {"family": "<6", "variant": "<14", "kind": "<7", "metric": "<11", "as it is": ".3f", "change": "+.3f"}
    table = measure.Table(formats | {"interval": ".3f", "seeds": ".3f", "real": "<4"})
    known: dict[tuple[str, str], list[list[Row]]] = {}
    for family in given.families:
        for name in given.variants:
            task, changes = VARIANTS[name]
            for extra in ((), changes):
                if extra or (family, task) not in known:
                    runs = [trained(family, task, seed, (*given.set, *extra)) for seed in range(given.seeds)]
                    known.setdefault((family, task), runs)
            before, after = averaged(known[family, task]), averaged(runs)
            for kind, metric in TASKS[task][1]:
                level, change = (
                    statistics.figure(before, kind, metric),
                    statistics.difference(before, after, kind, metric),
                )
                if level and change:
                    verdict = "yes" if change.real else "no"
                    table.row(
                        family,
                        name,
                        kind,
                        metric,
                        level.mean,
                        change.mean,
                        change.half,
                        spread(runs, kind, metric),
                        verdict,
                    )


if __name__ == "__main__":
    measure.start(main)
