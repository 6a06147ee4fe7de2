"""What is each choice worth? Trains a network once for each variant of the settings, and scores them all alike.

    python bench/ablation.py                            # every variant, 200 steps of the rnn each
    python bench/ablation.py baseline phase-free no-shift --steps 400
    python bench/ablation.py --csv docs/ablation.csv    # what the report and docs/ablation.md show
    python bench/ablation.py --list                     # the variants and the settings that they change

Needs work/pairs (dvc repro degrade). Scores the validation split as the judge does, blind: LSD where the band is extended
(speech, music), LSD below the cutoff and SI-SDR where damage is repaired, and the buzz at the hop rate.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import measure
from overtone import audio
from overtone import settings as params
from overtone.data.pairs import read_pairs
from overtone.enhance.upsampler import Upsampler
from overtone.evaluation import report
from overtone.evaluation.judge import judge
from overtone.training.fit import train

PAIRS = Path("work/pairs")
CONDITIONS = ("sinc_8k", "sinc_16k", "mp3_mono_32k", "loss_16k_zero", "noise_10db")
# Column -> the figure's place in metrics.json, and its format.
FIGURES = {
    "speech": ("extend", "speech", "lsd", ".3f"),
    "music": ("extend", "music", "lsd", ".3f"),
    "restored": ("restore", "all", "lsd_lf", ".3f"),
    "si_sdr": ("restore", "all", "si_sdr", "+.2f"),
    "hop_line": ("extend", "all", "hop_line_db", ".1f"),
}
ABLATION = ("variant", *FIGURES, "steps", "changes")
# Family, and what is changed of the settings in params.yaml.
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "baseline": ("rnn", ()),
    "phase-free": ("rnn", ("train.rnn.phase=free",)),
    "phase-mixed": ("rnn", ("train.rnn.phase=mixed",)),
    "no-shift": ("rnn", ("train.loss.shift=false",)),
    "phase-free-no-shift": ("rnn", ("train.rnn.phase=free", "train.loss.shift=false")),
    "no-beyond": ("rnn", ("train.loss.beyond=0",)),
    "phase-loss": ("rnn", ("train.loss.phase=0.3",)),
    "no-waveform-loss": ("rnn", ("train.loss.error_ratio=0", "train.loss.mse=0")),
    "mse-only": ("rnn", ("train.loss.log_spectral=0", "train.loss.error_ratio=0", "train.loss.mse=1")),
    "one-window": ("rnn", ("train.loss.windows=[1024]",)),
    "no-harm": ("rnn", ("train.loss.harm=0",)),
    "no-redraw": ("rnn", ("train.data.redraw=0",)),
    "no-average": ("rnn", ("train.fit.average=0",)),
    "crops-2s": ("rnn", ("train.data.crop_seconds=2", "train.data.batch=8")),
    "rnn-lstm": ("rnn", ("train.rnn.cell=lstm",)),
    "rnn-hidden-384": ("rnn", ("train.rnn.hidden=384",)),
    "rnn-three-layers": ("rnn", ("train.rnn.layers=3",)),
    "rnn-both-ways": ("rnn", ("train.rnn.bidirectional=true",)),
    "rnn-dropout": ("rnn", ("train.rnn.dropout=0.1",)),
    "cnn": ("cnn", ()),
    "cnn-wide": ("cnn", ("train.cnn.width=384",)),
    "cnn-deep": ("cnn", ("train.cnn.depths=[2,4,4]",)),
    "cnn-max": ("cnn", ("train.cnn.pooling=max",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures into a CSV file too")
    parser.add_argument("--list", action="store_true", help="name the variants and stop")
    options = parser.parse_args()
    unknown = [name for name in options.variants if name not in VARIANTS]
    if unknown:
        parser.error(f"{unknown[0]}: no such variant; expected some of {', '.join(VARIANTS)}")
    if options.list:
        for name, (kind, changes) in VARIANTS.items():
            print(f"{name:<22}{kind}  {' '.join(changes)}")
        return
    print(
        "| variant | speech | music | restored | SI-SDR, dB | buzz, dB | overtone stage train |\n"
        "|---|---:|---:|---:|---:|---:|---|"
    )
    rows = []
    for name in options.variants:
        kind, changes = VARIANTS[name]
        scores = measured(kind, (*changes, f"train.{kind}.steps={options.steps}"))
        rows.append(row(name, kind, changes, scores, options.steps))
        *figures, _, shown = rows[-1].values()
        print(f"| {' | '.join(figures)} | `{shown}` |", flush=True)
        if options.csv:
            write(options.csv, rows)


def row(name: str, kind: str, changes: tuple[str, ...], scores: dict[str, float], steps: int) -> dict[str, str]:
    """A variant's figures as they are printed and written."""
    shown = " ".join(["--model", kind, *(f"--set '{change}'" for change in changes)])
    figures = {name: f"{scores[name]:{FIGURES[name][3]}}" for name in FIGURES}
    return {"variant": name, **figures, "steps": str(steps), "changes": shown}


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """The CSV that the report's page shows."""
    with audio.replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, ABLATION, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measured(kind: Any, changes: tuple[str, ...]) -> dict[str, float]:
    """Train with changed settings, in a temporary folder, and score."""
    settings = params.load(overrides=changes)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        with contextlib.redirect_stdout(io.StringIO()):
            train(settings, kind, PAIRS, out, Path(folder) / "checkpoints")
        return scored(Upsampler.load(out), settings)


def scored(upsampler: Upsampler, settings: params.Params) -> dict[str, float]:
    """The figures of the validation split, which chooses; the test split is not for choosing."""
    pairs = [pair for pair in read_pairs(PAIRS, "valid") if pair.condition in CONDITIONS]
    plain = settings.evaluate.model_copy(update={"visqol": ()})
    judged = judge("ablation", lambda: upsampler, pairs, PAIRS, plain, workers=1)
    means, _ = report.summarise(judged.rows)
    return {name: means[group][kind][metric] for name, (group, kind, metric, _) in FIGURES.items()}


if __name__ == "__main__":
    measure.start(main)
