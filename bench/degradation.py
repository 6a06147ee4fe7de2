"""How fast is each degradation, and how does its cost grow with length?

    python bench/degradation.py                    # every family on noise and tones of 1, 10 and 60 s
    python bench/degradation.py opus mp3 sinc --seconds 1 10 --runs 3
    python bench/degradation.py --clip work/corpus/clips/NAME.flac --chart docs/pictures/bench-degradation.png

Prints, for each family and length, seconds of audio degraded a second (one process, array to array, 48 kHz) and the
ratio of its time to that of the sinc narrow band in the same run. A given clip is repeated or cut to the lengths asked
for.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

import measure
from overtone import audio
from overtone.audio import Signal
from overtone.data import degrade
from overtone.settings import BitErrors, Clip, Codec, NarrowBand, Noise, PacketLoss, Quantise, Step

RATE = 48_000
BASE = "sinc"
FAMILIES: dict[str, dict[str, Step]] = {
    "narrow band": {
        BASE: NarrowBand(rate=16_000),
        "windowed_sinc": NarrowBand(rate=16_000, cut=0.9),
        "butterworth": NarrowBand(rate=16_000, filter="butterworth"),
        "chebyshev1": NarrowBand(rate=16_000, filter="chebyshev1"),
        "elliptic": NarrowBand(rate=16_000, filter="elliptic"),
        "bessel": NarrowBand(rate=16_000, filter="bessel"),
    },
    "codecs": {
        "mp3": Codec(codec="mp3", kbps=32),
        "opus": Codec(codec="opus", kbps=16),
        "vorbis": Codec(codec="vorbis", quality=0.1),
        "gsm610": Codec(codec="gsm610"),
        "mulaw": Codec(codec="mulaw"),
        "alaw": Codec(codec="alaw"),
        "ima_adpcm": Codec(codec="ima_adpcm"),
    },
    "other damage": {
        "packet_loss": PacketLoss(share=0.1),
        "bit_errors": BitErrors(rate=0.001),
        "recorded_noise": Noise(snr_db=10),
        "pink_noise": Noise(snr_db=10, colour="pink"),
        "clip": Clip(share=0.05),
        "quantise": Quantise(bits=8),
    },
}


def noise_and_tones(length: float, channels: int) -> Signal:
    """Harmonics under noise: encoders take longer over it than over noise or tones alone."""
    rng = np.random.default_rng(0)
    time = np.arange(round(length * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 40))
    return np.asarray(0.1 * tones + 0.03 * rng.standard_normal((channels, len(time))), dtype=np.float32)


def run(step: Step, signal: Signal, noises: list[Signal]) -> None:
    """One degradation, with the same random numbers each time."""
    degrade.apply((step,), signal, RATE, degrade.generator("bench"), noises)


def main() -> None:
    names = [name for families in FAMILIES.values() for name in families]
    parser = measure.parser(__doc__)
    parser.add_argument("families", nargs="*", metavar="family", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--seconds", nargs="+", type=float, default=[1.0, 10.0, 60.0])
    parser.add_argument("--channels", type=int, default=1, help="of the signal that is made (1)")
    parser.add_argument("--clip", type=Path, metavar="FILE", help="audio file instead of the signal that is made")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    if unknown := [name for name in given.families if name not in names]:
        parser.error(f"{unknown[0]}: expected one of {', '.join(names)}")
    # The stage works on one clip a process.
    torch.set_num_threads(1)
    if given.clip:
        clip, rate = audio.read(given.clip)
        clip = audio.resample(clip, rate, RATE)
    else:
        clip = noise_and_tones(10.0, given.channels)
    noises = [0.1 * np.random.default_rng(1).standard_normal((1, 10 * RATE)).astype(np.float32)]

    panels: dict[str, measure.Lines] = {}
    table = measure.Table({"family": "<16", "length, s": "g", "audio s/s": ".1f", "time / sinc": ".2f"})
    for length in given.seconds:
        frames = round(length * RATE)
        signal = np.tile(clip, (1, -(-frames // clip.shape[1])))[:, :frames]
        base = measure.seconds(functools.partial(run, FAMILIES["narrow band"][BASE], signal, noises), given.runs)
        for panel, families in FAMILIES.items():
            for name, step in families.items():
                if given.families and name not in given.families:
                    continue
                call = functools.partial(run, step, signal, noises)
                taken = base if name == BASE else measure.seconds(call, given.runs)
                table.row(name, length, length / taken, taken / base)
                panels.setdefault(panel, {}).setdefault(name, []).append((length, taken))
    measure.chart(given.chart, panels, title="Degradations at 48 kHz", x="length of the clip (s)", y="time (s)")


if __name__ == "__main__":
    measure.start(main)
