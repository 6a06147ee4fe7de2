"""Compose short random pieces and play them with a General MIDI sound font: music with a whole top, for `gather.py`.

Needs `fluidsynth` on PATH and the package `mido`. The pieces have no author but the seed.

    python released/compose.py renders/FluidR3_GM FluidR3_GM.sf2 --pieces 75 --seed 1
    python released/compose.py renders/MuseScore_General MuseScore_General_Full.sf2 --pieces 75 --seed 2
    python released/compose.py renders/Black_Pearl Black_Pearl_4_LV2.sf2 --pieces 5 --seed 3 --styles drums --drum-bank 0
    python released/compose.py renders/Red_Zeppelin Red_Zeppelin_4_LV2.sf2 --pieces 5 --seed 4 --styles drums --drum-bank 0
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np

from overtone import audio

RATE = 48_000
TICKS = 480
SECONDS = 24
PEAK = 0.7
GAIN = "0.4"  # of fluidsynth; loud chords do not clip
MELODY, BASS, CHORDS, PAD, DRUMS = 0, 1, 2, 3, 9


@dataclass(frozen=True)
class Style:
    """General MIDI programs, from 0, that a part may draw; the chance of a note on an eighth; whether drums play."""

    melody: tuple[int, ...]
    bass: tuple[int, ...]
    chords: tuple[int, ...]
    density: float = 0.45
    drums: bool = False


@dataclass(frozen=True)
class Note:
    """Start and length in beats; pitch and velocity as in MIDI."""

    beat: float
    channel: int
    pitch: int
    velocity: float
    beats: float


STYLES = {
    "orchestral": Style((40, 41, 56, 60, 68, 71, 73, 9, 13), (42, 43, 58, 70), (44, 45, 46, 48, 49, 47, 61)),
    "rock": Style((27, 28, 29, 30, 16, 18, 81), (33, 34, 36), (25, 26, 29, 30, 4, 18), drums=True),
    "acoustic": Style((0, 24, 25, 22, 73, 105, 11, 21, 110), (32, 35), (0, 24, 21, 46, 12, 25), drums=True),
    "electronic": Style((80, 81, 84, 87, 98, 102), (38, 39), (88, 89, 90, 94, 95, 50), 0.6, drums=True),
    "chamber": Style((0, 6, 40, 42, 68, 71, 72, 74), (42, 43, 70), (0, 6, 8, 46, 19, 45), 0.35),
    "choir": Style((52, 53, 54, 91, 75, 79), (43, 19, 58), (52, 19, 20, 48, 92), 0.25),
    "jazz": Style((56, 59, 64, 65, 66, 11, 26), (32, 33), (0, 4, 5, 26, 17), 0.55, drums=True),
    "world": Style((15, 104, 105, 106, 107, 108, 111, 77, 114), (32, 43), (24, 46, 107, 15, 112), 0.5, drums=True),
    "drums": Style((), (), (), drums=True),
}
PROGRESSIONS = ([0, 5, 7, 0], [0, 9, 5, 7], [0, 3, 10, 5], [0, 7, 9, 5], [0, 2, 7, 0])
SCALES = ([0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10])
CHORD = (0, 4, 7, 12)
CYMBALS, SNARES, FILLS = (42, 44, 46, 51, 53, 70), (37, 38, 40), (41, 43, 45, 47, 48, 49, 50, 55, 57)
KICK = 36


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("font", type=Path)
    parser.add_argument("--pieces", type=int, default=75, help="of 24 s each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=[style for style in STYLES if style != "drums"])
    parser.add_argument("--drum-bank", type=int, default=128, help="where the sound font holds its kit")
    options = parser.parse_args()
    if not options.font.is_file():
        parser.error(f"{options.font}: no such file; expected a sound font (.sf2)")
    for index in range(options.pieces):
        rng = np.random.default_rng((options.seed, index))
        style = options.styles[index % len(options.styles)]
        play(compose(STYLES[style], rng, options.drum_bank), options.font, options.out / f"{style}_{index:03d}.flac")


def compose(style: Style, rng: np.random.Generator, drum_bank: int = 128) -> mido.MidiFile:
    """A piece of melody, bass, chords and drums, as the style has them, over a repeated progression of four bars."""
    tempo = int(rng.integers(70, 150))
    bars = tempo * SECONDS // 60 // 4 + 1
    root, scale = int(rng.integers(48, 60)), SCALES[int(rng.integers(len(SCALES)))]
    progression = PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]
    notes: list[Note] = []
    for bar in range(bars):
        if style.melody:
            notes += harmony(4 * bar, root + progression[bar % 4], rng)
            notes += line(4 * bar, root, progression[bar % 4], scale, style.density, rng)
        if style.drums:
            notes += beat(4 * bar, rng)
    swell = 0.6 + 0.4 * np.sin(np.linspace(0, rng.uniform(2, 9), 4 * bars + 1) + rng.uniform(0, 6))
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo))])
    for channel, programs in ((MELODY, style.melody), (BASS, style.bass), (CHORDS, style.chords), (PAD, style.chords)):
        if programs:
            track.append(mido.Message("program_change", channel=channel, program=int(rng.choice(programs))))
            track.append(mido.Message("control_change", channel=channel, control=10, value=int(rng.integers(20, 108))))
    channel = DRUMS if drum_bank == 128 else MELODY
    events = []
    for note in notes:
        velocity = int(np.clip(note.velocity * swell[int(note.beat)] + rng.normal(0, 6), 12, 127))
        on = {"channel": channel if note.channel == DRUMS else note.channel, "note": int(np.clip(note.pitch, 21, 108))}
        events.append((round(note.beat * TICKS), mido.Message("note_on", velocity=velocity, **on)))
        events.append((round((note.beat + note.beats) * TICKS), mido.Message("note_off", **on)))
    now = 0
    for tick, message in sorted(events, key=lambda event: (event[0], event[1].type == "note_on")):
        track.append(message.copy(time=tick - now))
        now = tick
    piece = mido.MidiFile(ticks_per_beat=TICKS)
    piece.tracks.append(track)
    return piece


def harmony(start: int, root: int, rng: np.random.Generator) -> Iterator[Note]:
    """A chord of two to four notes for a bar, some of them again an octave up on its half."""
    for step in CHORD[: int(rng.integers(2, 5))]:
        yield Note(start, CHORDS, root + step, 80, 4)
        if rng.random() < 0.5:
            yield Note(start + 2, PAD, root + 12 + step, 70, 2)


def line(
    start: int, root: int, shift: int, scale: list[int], density: float, rng: np.random.Generator
) -> Iterator[Note]:
    """A bar of bass on the chord's root and of melody anywhere in two octaves of the scale."""
    for eighth in range(8):
        if rng.random() < 0.5:
            yield Note(start + eighth / 2, BASS, root - 12 + shift, 95, 0.5)
        if rng.random() < density:
            pitch = root + 12 + scale[int(rng.integers(7))] + 12 * int(rng.integers(0, 2))
            yield Note(start + eighth / 2, MELODY, pitch, 105, float(rng.choice([0.4, 0.7, 1.5])))


def beat(start: int, rng: np.random.Generator) -> Iterator[Note]:
    """A bar of drums: cymbals on most eighths, kick and snare on the beats, now and then a tom or a crash."""
    for eighth in range(8):
        now = start + eighth / 2
        if rng.random() < 0.85:
            yield Note(now, DRUMS, int(rng.choice(CYMBALS)), 75, 0.2)
        if eighth % 4 == 0:
            yield Note(now, DRUMS, KICK, 110, 0.2)
        elif eighth % 4 == 2:
            yield Note(now, DRUMS, int(rng.choice(SNARES)), 105, 0.2)
        elif rng.random() < 0.15:
            yield Note(now, DRUMS, int(rng.choice(FILLS)), 100, 0.4)


def play(piece: mido.MidiFile, font: Path, out: Path) -> None:
    """Render a piece at 48 kHz in stereo, with fluidsynth's default effects, and write it at a peak of 0.7."""
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        piece.save(str(score))
        command = ["fluidsynth", "-ni", "-q", "-g", GAIN, "-r", str(RATE), "-O", "float", "-F", str(sound)]
        subprocess.run([*command, str(font), str(score)], check=True, stdout=subprocess.DEVNULL)
        signal, rate = audio.read(sound, 0, SECONDS * RATE)
    audio.write(out, signal * np.float32(PEAK / max(float(np.abs(signal).max()), 1e-9)), rate, "PCM_16")


if __name__ == "__main__":
    main()
