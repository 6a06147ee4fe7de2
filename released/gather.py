"""Join the short prompts of voices into clips of about ten seconds, one folder a voice, for the corpus of a released model.

Each voice is `NAME=FOLDER`; the audio files below FOLDER at 44.1 kHz are taken in the order of their names, trimmed of
the silence at their ends and joined. Files at other rates are left out: recordings at 48 kHz are kept for judging.

    python released/gather.py work/voices uk_klettres=/usr/share/klettres/uk --max-seconds 600
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from overtone import audio

RATE = 44_100
CLIP_SECONDS = 10.0
# What lies this far below a prompt's loudest moment, at its ends, is silence; so much of it is kept.
SILENCE_DB = -45.0
MARGIN_SECONDS = 0.1
FADE_SECONDS = 0.005

Samples = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("voices", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--max-seconds", type=float, default=3600.0, help="of each voice")
    options = parser.parse_args()
    for voice in options.voices:
        name, _, folder = voice.partition("=")
        if not folder or not Path(folder).is_dir():
            parser.error(f"{voice}: expected NAME=FOLDER with an existing folder")
        print(f"{name}: {join(Path(folder), options.out / name, options.max_seconds):.0f} s", flush=True)


def join(folder: Path, out: Path, max_seconds: float) -> float:
    """Write one voice's clips as 16-bit FLAC; returns their seconds."""
    held: list[Samples] = []
    total, clips = 0.0, 0
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in audio.EXTENSIONS]
    for index, path in enumerate(paths):
        try:
            if audio.probe(path).rate != RATE:
                continue
            signal, _ = audio.read(path)
        except audio.AudioError as error:
            print(f"left out: {error}")
            continue
        prompt = trimmed(signal.mean(axis=0))
        held.append(prompt)
        total += len(prompt) / RATE
        if sum(map(len, held)) >= CLIP_SECONDS * RATE or index == len(paths) - 1 or total >= max_seconds:
            joined = np.concatenate(held)[None]
            audio.write(out / f"{out.name}_{clips:03d}.flac", joined / max(1.0, np.abs(joined).max()), RATE, "PCM_16")
            held, clips = [], clips + 1
        if total >= max_seconds:
            break
    return total


def trimmed(prompt: Samples) -> Samples:
    """Without the silence at both ends, faded in and out; empty if there is nothing but silence."""
    loud = np.flatnonzero(np.abs(prompt) > np.abs(prompt).max(initial=0.0) * 10 ** (SILENCE_DB / 20))
    if not len(loud):
        return prompt[:0]
    margin, fade = round(MARGIN_SECONDS * RATE), round(FADE_SECONDS * RATE)
    cut = prompt[max(loud[0] - margin, 0) : loud[-1] + margin].copy()
    ramp = np.linspace(0.0, 1.0, min(fade, len(cut)), dtype=np.float32)
    cut[: len(ramp)] *= ramp
    cut[len(cut) - len(ramp) :] *= ramp[::-1]
    return cut


if __name__ == "__main__":
    main()
