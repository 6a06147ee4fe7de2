"""Compose short random pieces and play them with a General MIDI sound font: full-band music for a released model's corpus.

Needs `fluidsynth` on PATH and the package `mido`. The pieces have no author but the seed.

    python released/compose.py work/music /usr/share/sounds/sf2/FluidR3_GM.sf2 --pieces 60 --seed 1
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import mido
import numpy as np

from overtone import audio

RATE = 48_000
TICKS = 480
SECONDS = 24
PEAK = 0.7
# General MIDI programs (from 0) by the part they play; the third list of a style is the accompaniment.
STYLES: dict[str, tuple[list[int], list[int], list[int], bool]] = {
    "orchestral": ([40, 41, 56, 60, 68, 71, 73], [42, 43, 58, 70], [44, 45, 46, 48, 49, 47, 52, 61], False),
    "rock": ([27, 28, 29, 30, 16, 18], [33, 34, 36], [25, 26, 29, 30, 4], True),
    "acoustic": ([0, 24, 25, 22, 73, 105, 11], [32, 35], [0, 24, 21, 46, 12], True),
    "electronic": ([80, 81, 84, 87], [38, 39], [88, 89, 90, 94, 95], True),
}
PROGRESSIONS = ([0, 5, 7, 0], [0, 9, 5, 7], [0, 3, 10, 5], [0, 7, 9, 5], [0, 2, 7, 0])
SCALES = ([0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("font", type=Path)
    parser.add_argument("--pieces", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not options.font.is_file():
        parser.error(f"{options.font}: no such file; expected a sound font (.sf2)")
    for index in range(options.pieces):
        rng = np.random.default_rng((options.seed, index))
        style = list(STYLES)[index % len(STYLES)]
        name = f"{style}_{index:03d}"
        play(compose(style, rng), options.font, options.out / name / f"{name}.flac", gain=0.4)


def compose(style: str, rng: np.random.Generator) -> mido.MidiFile:
    """A piece of melody, bass, chords and, in some styles, drums over a repeated progression."""
    melody, bass, chords, drums = STYLES[style]
    beats = int(rng.integers(70, 150)) * SECONDS // 60
    tempo = mido.bpm2tempo(beats * 60 / SECONDS)
    root, scale = int(rng.integers(48, 60)), SCALES[int(rng.integers(len(SCALES)))]
    progression = PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]
    # (tick, channel, note, velocity, length)
    notes: list[tuple[int, int, int, int, int]] = []
    dynamics = 0.6 + 0.4 * np.sin(np.linspace(0, rng.uniform(2, 9), beats + 1) + rng.uniform(0, 6))

    def add(beat: float, channel: int, note: int, loud: float, length: float) -> None:
        velocity = int(np.clip(loud * dynamics[min(int(beat), beats)] + rng.normal(0, 6), 12, 127))
        notes.append(
            (round(beat * TICKS), channel, int(np.clip(note, 21, 108)), velocity, max(round(length * TICKS), 30))
        )

    for bar in range(beats // 4 + 1):
        shift = progression[bar % 4]
        start = 4 * bar
        for step in [0.0, 4.0, 7.0, 12.0][: int(rng.integers(2, 5))]:
            add(start, 2, root + shift + int(step), 80, 4)
            if rng.random() < 0.5:
                add(start + 2, 3, root + 12 + shift + int(step), 70, 2)
        for eighth in range(8):
            if rng.random() < 0.5:
                add(start + eighth / 2, 1, root - 12 + shift, 95, 0.5)
            if rng.random() < 0.45:
                add(
                    start + eighth / 2,
                    0,
                    root + 12 + scale[int(rng.integers(7))] + 12 * int(rng.integers(0, 2)),
                    105,
                    0.7,
                )
            if drums:
                if rng.random() < 0.85:
                    add(start + eighth / 2, 9, int(rng.choice([42, 44, 46, 51, 70])), 75, 0.2)
                if eighth % 4 == 0:
                    add(start + eighth / 2, 9, 36, 110, 0.2)
                elif eighth % 4 == 2:
                    add(start + eighth / 2, 9, int(rng.choice([38, 40])), 105, 0.2)
                elif rng.random() < 0.08:
                    add(start + eighth / 2, 9, int(rng.choice([49, 57, 47, 45, 50, 56])), 100, 0.4)
    events = [(t, mido.Message("note_on", channel=c, note=n, velocity=v)) for t, c, n, v, _ in notes]
    events += [(t + length, mido.Message("note_off", channel=c, note=n)) for t, c, n, _, length in notes]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    for channel, programs in enumerate((melody, bass, chords, chords)):
        track.append(mido.Message("program_change", channel=channel, program=int(rng.choice(programs))))
        track.append(mido.Message("control_change", channel=channel, control=10, value=int(rng.integers(20, 108))))
    now = 0
    for tick, message in sorted(events, key=lambda event: (event[0], event[1].type == "note_on")):
        track.append(message.copy(time=tick - now))
        now = tick
    piece = mido.MidiFile(ticks_per_beat=TICKS)
    piece.tracks.append(track)
    return piece


def play(piece: mido.MidiFile, font: Path, out: Path, gain: float) -> None:
    """Render a piece at 48 kHz in stereo and write it at a peak of 0.7."""
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        piece.save(str(score))
        command = ["fluidsynth", "-ni", "-q", "-g", str(gain), "-r", str(RATE), "-O", "float", "-F", str(sound)]
        subprocess.run([*command, str(font), str(score)], check=True, stdout=subprocess.DEVNULL)
        signal, rate = audio.read(sound, 0, SECONDS * RATE)
    audio.write(out, signal * np.float32(PEAK / max(float(np.abs(signal).max()), 1e-9)), rate, "PCM_16")


if __name__ == "__main__":
    main()
