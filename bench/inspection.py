"""How often does `overtone inspect` find what was done to a recording, and what does it find where nothing was done?

    python bench/inspection.py                       # needs work/corpus (dvc repro corpus)
    python bench/inspection.py --clips 20 --seed 2

Excerpts of clips, as they are and after each degradation of the project, written as 16-bit WAV, so that the file itself tells
nothing. Rows are what was done, columns the share of the files in which each thing was found.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from overtone import audio
from overtone.data import degrade
from overtone.enhance.inspection import inspect
from overtone.settings import BitErrors, Clip, Codec, NarrowBand, Noise, PacketLoss, Quantise, Step

CORPUS = Path("work/corpus")
SECONDS = 8.0
DONE: dict[str, tuple[Step, ...]] = {
    "nothing": (),
    **{f"narrow band {rate} Hz": (NarrowBand(rate=rate, cut=1.0),) for rate in (8_000, 16_000, 24_000)},
    **{f"MP3 {kbps} kbit/s": (Codec(codec="mp3", kbps=kbps),) for kbps in (32, 64, 128)},
    **{f"Opus {kbps} kbit/s": (Codec(codec="opus", kbps=kbps),) for kbps in (16, 32, 64)},
    **{f"Vorbis {quality}": (Codec(codec="vorbis", quality=quality),) for quality in (0.1, 0.4)},
    "GSM 6.10": (Codec(codec="gsm610"),),
    "5 % lost, silent": (PacketLoss(share=0.05, burst=1.5),),
    "10 % lost, repeated": (PacketLoss(share=0.1, burst=1.5, fill="repeat"),),
    "clipped 1 %": (Clip(share=0.01),),
    "clipped 5 %": (Clip(share=0.05),),
    "8 bit": (Quantise(bits=8),),
    **{f"white noise {snr} dB": (Noise(snr_db=snr, colour="white"),) for snr in (0, 10, 20)},
    **{f"pink noise {snr} dB": (Noise(snr_db=snr, colour="pink"),) for snr in (10,)},
    "bit errors": (BitErrors(rate=0.001),),
}
FOUND = ("narrow band", "lossy codec", "clipping", "coarse levels", "lost packets", "noise")


def clips(count: int, seed: int) -> list[tuple[str, Path]]:
    with (CORPUS / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] != "noise"]
    order = np.random.default_rng(seed).permutation(len(rows))
    return [(rows[index]["kind"], CORPUS / rows[index]["path"]) for index in order[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="regular expression that what was done must match")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    chosen = clips(options.clips, options.seed)
    print(f"{len(chosen)} clips, {sum(kind == 'speech' for kind, _ in chosen)} of them speech\n")
    print("| done | " + " | ".join(FOUND) + " |")
    print("|---|" + "---:|" * len(FOUND))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "file.wav"
        for name, steps in DONE.items():
            if not re.search(options.only, name):
                continue
            found: Counter[str] = Counter()
            for index, (_, clip) in enumerate(chosen):
                signal, rate = audio.read(clip, 0, round(SECONDS * 48_000))
                rng = degrade.generator(options.seed, name, index)
                audio.write(path, degrade.apply(steps, signal, rate, rng), rate, "PCM_16")
                findings = inspect(path).findings
                if options.verbose:
                    print(clip.name, name, findings, flush=True)
                found.update({finding.name for finding in findings})
            print(f"| {name} | " + " | ".join(f"{found[key] / len(chosen):.0%}" for key in FOUND) + " |", flush=True)


if __name__ == "__main__":
    main()
