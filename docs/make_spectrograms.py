"""Draw docs/spectrograms.md: what each released model makes of test clips, beside input and original.

    python docs/make_spectrograms.py

Needs work/pairs (dvc repro degrade) and the released models (fetched if they are not there).
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from overtone import audio
from overtone.data.pairs import Pair, read_pairs
from overtone.enhance.upsampler import Upsampler
from overtone.evaluation import figures, judge, metrics
from overtone.registry import released

ROOT = Path(__file__).parents[1]
PAIRS = ROOT / "work" / "pairs"
PAGE = ROOT / "docs" / "spectrograms.md"
PICTURES = ROOT / "docs" / "pictures" / "spectrograms"
SECONDS = 3.0
COLOURS = 96
# Condition and the kind of the clips it is shown on: the first clip of each test source is taken, so many at most.
SHOWN = (
    ("sinc_8k", "speech", 2),
    ("sinc_16k", "speech", 2),
    ("sinc_16k", "music", 3),
    ("mp3_stereo_64k", "music", 1),
    ("loss_16k_zero", "speech", 1),
    ("noise_10db", "speech", 1),
)
HEAD = """\
# Spectrograms

Input, what the released models made of it, and the original: excerpts of test clips, which no training heard. Made by
`python docs/make_spectrograms.py`. LSD is of the excerpt shown, in brackets that of the input.
"""


def main() -> None:
    models = {name: Upsampler.load(released.fetch(f"released-{name}", ROOT)) for name in ("rnn", "cnn")}
    pairs = read_pairs(PAIRS, "test")
    PICTURES.mkdir(parents=True, exist_ok=True)
    lines = [HEAD]
    for condition, kind, count in SHOWN:
        for pair in first_of_sources(pairs, condition, kind)[:count]:
            name = f"{condition}-{pair.clip}.png"
            scores = draw(pair, models, PICTURES / name)
            lines.append(f"## {condition}, {pair.source}\n\n{scores}\n\n![{condition}](pictures/spectrograms/{name})\n")
    PAGE.write_text("\n".join(lines))
    print(f"{PAGE.relative_to(ROOT)}: {len(lines) - 1} pictures")


def first_of_sources(pairs: list[Pair], condition: str, kind: str) -> list[Pair]:
    found: dict[str, Pair] = {}
    for pair in pairs:
        if pair.condition == condition and pair.kind == kind:
            found.setdefault(pair.source, pair)
    return list(found.values())


def draw(pair: Pair, models: dict[str, Upsampler], out: Path) -> str:
    """One picture; the LSD of each model's output as a line of text."""
    given, target = judge.read(PAIRS, pair)
    part = judge.loudest(target, pair.rate, SECONDS)
    signals = {"input": audio.fit_length(audio.resample(given, pair.input_rate, pair.rate), pair.frames)}
    for name, model in models.items():
        signals[name] = audio.fit_length(model.enhance(given, pair.input_rate), pair.frames)
    signals = {name: signal[:, part] for name, signal in signals.items()}
    target = target[:, part]
    scores = [f"{name} {distance(signals[name], target, pair):.2f}" for name in models]
    signals["original"] = target
    figures.draw(out, signals, pair.rate, title=f"{pair.condition}: {pair.source}", cutoff_hz=pair.cutoff_hz)
    # A picture of one colour scale needs no more colours, and is a third of the size.
    Image.open(out).convert("RGB").quantize(COLOURS).save(out, optimize=True)
    return f"LSD: {', '.join(scores)} ({distance(signals['input'], target, pair):.2f})"


def distance(signal: audio.Signal, target: audio.Signal, pair: Pair) -> float:
    found = metrics.log_spectral_distance(
        torch.from_numpy(signal), torch.from_numpy(target), pair.rate, pair.bandwidth_hz
    )
    return float("nan") if found is None else found


if __name__ == "__main__":
    main()
