"""What is each choice worth? Trains a network once for each variant of the settings, and scores them all alike.

    python bench/ablation.py                            # every variant, 200 steps of the rnn each
    python bench/ablation.py baseline phase-free no-shift --steps 400
    python bench/ablation.py --csv docs/ablation.csv    # what the report and docs/ablation.md show
    python bench/ablation.py --list                     # the variants and the settings that they change

Needs work/pairs (dvc repro degrade). Scores an excerpt of each test source: LSD where the band is extended (speech and
music at 8 and 16 kHz) and where damage is repaired, the change of SNR against the input, and the line at the hop rate in the
envelope of what is added above 9 kHz, in dB over its surroundings: a buzz that LSD does not see.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import torch

import measure
from overtone import audio, metrics, params
from overtone.data.pairs import Pair, read_pairs
from overtone.models.spectral import HOP
from overtone.overview.tables import ABLATION
from overtone.training.fit import train
from overtone.upsample import Upsampler

PAIRS = Path("work/pairs")
SECONDS = 4.0
CONDITIONS = ("sinc_8k", "sinc_16k", "mp3_32k", "loss_10", "noise_10db")
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
        "| variant | speech | music | restored | SNR, dB | line, dB | overtone stage train |\n"
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
    texts = {
        "variant": name,
        **{part: f"{scores[part]:.3f}" for part in ("speech", "music", "restored")},
        "snr": f"{scores['snr']:+.2f}",
        "line": f"{scores['line']:.1f}",
        "steps": str(steps),
        "changes": shown,
    }
    return {column: texts[column] for column in ABLATION}


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """The CSV that `overtone.overview` reads."""
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
        return scored(Upsampler.load(out))


def scored(upsampler: Upsampler) -> dict[str, float]:
    """Means over an excerpt of each test source."""
    found: dict[str, list[float]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    for pair in read_pairs(PAIRS, "test"):
        if pair.condition not in CONDITIONS or (pair.condition, pair.source) in seen:
            continue
        seen.add((pair.condition, pair.source))
        given, target = (excerpt(pair, path) for path in (pair.input, pair.target))
        made = upsampler.enhance(given, pair.rate, mode=pair.mode, cutoff_hz=pair.cutoff_hz)
        tensors = [torch.from_numpy(signal) for signal in (made, given, target)]
        ours, before = (
            metrics.score(signal, tensors[2], pair.rate, pair.cutoff_hz, pair.bandwidth_hz) for signal in tensors[:2]
        )
        if pair.mode == "extend":
            found[pair.kind].append(ours["lsd"])
            found["snr"].append(ours["snr"] - before["snr"])
            if pair.condition == "sinc_16k":
                found["line"].append(envelope_line(made[0], pair.rate))
        else:
            found["restored"].append(ours["lsd"])
    return {name: statistics.fmean(values) for name, values in found.items()}


def excerpt(pair: Pair, path: str) -> audio.Signal:
    """The middle of the first channel of a file of the pairs."""
    length = min(pair.frames, round(SECONDS * pair.rate))
    signal, _ = audio.read(PAIRS / path, (pair.frames - length) // 2, length)
    return signal[:1]


def envelope_line(signal: np.ndarray[Any, Any], rate: int) -> float:
    """Height in dB of the envelope's line at the hop rate, above the median of its surroundings; sound above 9 kHz."""
    filtered = scipy.signal.sosfiltfilt(scipy.signal.butter(6, 9_000, "high", fs=rate, output="sos"), signal)
    envelope = np.abs(scipy.signal.hilbert(filtered))
    frequency, power = scipy.signal.welch(envelope / (envelope.mean() + 1e-9), rate, nperseg=16_384)
    hop_rate = rate / HOP
    near = np.abs(frequency - hop_rate)
    return float(10 * np.log10(power[near < 2].max() / np.median(power[near < 14])))


if __name__ == "__main__":
    measure.start(main)
