"""Build the corpus of the released models, as `sources.csv` lists it: clips by source, and an index of what they hold.

Every source is one voice, one collection of pieces or one kind of noise. Prompts of speech and short noises are joined
into clips of about 12 s, pieces of music are cut into excerpts, longer noise is kept as it is. All clips are mono
16-bit FLAC at 48 kHz in `OUT/audio/KIND/SOURCE/`; `OUT/index.csv` measures each of them (`clip_index.py`).

    python released/gather.py OUT --packages DEBIAN --folder data=data --folder gcompris-voices=VOICES \\
        --folder artikulate-data=COURSES --folder renders=RENDERS

`DEBIAN/PACKAGE` is an unpacked Debian package (`dpkg-deb -x`), the archives that four of them keep their sounds in
unpacked too:

    unzip ufoai-music/usr/share/games/ufoai/base/0music.pk3 -d ufoai-music/pk3
    unzip nexuiz-music/usr/share/games/nexuiz/data/music.pk3 -d nexuiz-music/pk3
    unzip 0ad-data/usr/share/games/0ad/mods/public/public.zip 'audio/*' -d 0ad-data/zip
    unzip warzone2100-data/usr/share/games/warzone2100/base.wz 'audio/sfx/*' -d warzone2100-data/wz

`VOICES/LANGUAGE` and `COURSES/LANGUAGE` are recordings of KDE's GCompris voices and Artikulate courses, `RENDERS/FONT`
what `compose.py` writes. Sources that the index holds already are left alone, those without a folder are counted.
"""

from __future__ import annotations

import argparse
import csv
import functools
import multiprocessing
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from clip_index import COLUMNS, FRAME_SECONDS, frame_levels, level_db, read_index, sound_edge, write_index

from overtone import audio
from overtone.dsp.bandwidth import estimate_bandwidth

RATE = 48_000
CLIP_SECONDS = 12.0
SHORTEST_SECONDS = {"speech": 1.0, "music": 4.0, "noise": 1.0}
LOWEST_SPEECH_RATE = 16_000
LONGEST_NOISE_SECONDS = 30.0
PIECE_SECONDS = 240.0
# Shorter recordings of noise are joined, as prompts are.
JOINED_NOISE_SECONDS = 3.0
MARGIN_SECONDS = 0.12
CROSSFADE_SECONDS = 0.01
# soxr's VHQ is down 3 dB at this share of half the source's rate: nothing dependable is left above it.
RESAMPLER_EDGE = 0.95

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """One row of `sources.csv`.

    `files` are globs, separated by `|`, below the folder of `origin`; `minutes` is the most that is taken.
    """

    kind: str
    source: str
    collection: str
    origin: str
    files: str
    minutes: float
    licence: str

    def paths(self, root: Path) -> list[Path]:
        """The source's audio files, in an order that depends on nothing but their names and mixes their subjects."""
        matches = {path for pattern in self.files.split("|") for path in root.glob(pattern)}
        found = [path for path in matches if path.suffix.lower() in audio.EXTENSIONS]
        return sorted(found, key=lambda path: (zlib.crc32(path.relative_to(root).as_posix().encode()), path))


@dataclass(frozen=True)
class Clip:
    """Mono samples at their native rate, and the stem of the piece or recording that they are from, if it is one."""

    samples: Samples
    rate: int
    piece: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sources", type=Path, default=Path(__file__).with_name("sources.csv"))
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="folder of unpacked Debian packages")
    parser.add_argument("--folder", action="append", default=[], metavar="ORIGIN=FOLDER")
    parser.add_argument("--only", nargs="*", choices=SHORTEST_SECONDS, default=list(SHORTEST_SECONDS), help="kinds")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    folders = dict(folder.split("=", 1) for folder in options.folder)
    with options.sources.open(newline="") as file:
        sources = [Source(minutes=float(row.pop("minutes")), **row) for row in csv.DictReader(file)]
    index = options.out / "index.csv"
    known = read_index(index)
    done = {(row["kind"], row["source"]) for row in known}
    jobs, absent = [], 0
    for source in sources:
        root = Path(folders.get(source.origin, options.packages / source.origin))
        absent += not root.is_dir()
        if root.is_dir() and source.kind in options.only and (source.kind, source.source) not in done:
            jobs.append((source, root))
    build = functools.partial(build_source, options.out)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for rows in pool.imap_unordered(build, jobs):
            known += rows
            write_index(index, known)
    print(
        f"{len(known)} clips of {len({row['source'] for row in known})} sources; {absent} without their origin's folder"
    )


def build_source(out: Path, job: tuple[Source, Path]) -> list[dict[str, str]]:
    """Write one source's clips; returns their rows of the index."""
    source, root = job
    clips = {"speech": prompts, "music": excerpts, "noise": recordings}[source.kind](source.paths(root), source.minutes)
    rows, seconds = [], 0.0
    for number, clip in enumerate(clips):
        if seconds >= 60 * source.minutes:
            break
        path = Path("audio") / source.kind / source.source / f"{number:03d}.flac"
        samples = audio.resample(clip.samples[None], clip.rate, RATE)
        samples *= 0.99 / max(0.99, float(np.abs(samples).max()))
        audio.write(out / path, samples, RATE, "PCM_16")
        seconds += samples.shape[1] / RATE
        rows.append({"path": str(path), **measured(source, clip, samples)})
    print(f"{source.kind} {source.source}: {len(rows)} clips, {seconds / 60:.1f} min", flush=True)
    return rows


def prompts(paths: list[Path], minutes: float) -> Iterator[Clip]:
    """Trimmed prompts joined, those of like bandwidth together: a voice's prompts may come from several encoders."""
    held, seconds = [], 0.0
    for path in paths:
        if seconds < 60 * minutes and (clip := read(path)) and clip.rate >= LOWEST_SPEECH_RATE:
            held.append((estimate_bandwidth(clip.samples[None], clip.rate) // 500, Clip(trimmed(clip), clip.rate)))
            seconds += len(held[-1][1].samples) / clip.rate
    held.sort(key=lambda item: (item[1].rate, item[0]))
    yield from joined([clip for _, clip in held], SHORTEST_SECONDS["speech"])


def excerpts(paths: list[Path], minutes: float) -> Iterator[Clip]:
    """Excerpts of 12 s spread evenly over every piece; equally many of each where the source is longer than its limit."""
    most = max(1, round(min(PIECE_SECONDS, 60 * minutes / max(1, len(paths))) / CLIP_SECONDS))
    for path in paths:
        if not (clip := read(path)):
            continue
        size = round(CLIP_SECONDS * clip.rate)
        whole = max(1, len(clip.samples) // size)
        for index in sorted({int(k) for k in np.linspace(0, whole - 1, min(whole, most))}):
            samples = clip.samples[index * size : (index + 1) * size]
            if len(samples) >= SHORTEST_SECONDS["music"] * clip.rate and level_db(samples) > -60.0:
                yield Clip(samples, clip.rate, path.stem)


def recordings(paths: list[Path], _minutes: float) -> Iterator[Clip]:
    """Recordings of noise cut at 30 s; those shorter than 3 s joined."""
    short = []
    for path in paths:
        if not (clip := read(path)) or level_db(clip.samples) < -70.0:
            continue
        if len(clip.samples) < JOINED_NOISE_SECONDS * clip.rate:
            short.append(Clip(trimmed(clip), clip.rate))
        else:
            yield Clip(clip.samples[: round(LONGEST_NOISE_SECONDS * clip.rate)], clip.rate, path.stem)
    short.sort(key=lambda clip: clip.rate)
    yield from joined(short, SHORTEST_SECONDS["noise"])


def read(path: Path) -> Clip | None:
    """A file as mono; one that cannot be read is named and left out. Channels that would cancel are not mixed."""
    try:
        signal, rate = audio.read(path)
    except audio.AudioError as error:
        print(f"left out: {error}", flush=True)
        return None
    mono = signal.mean(axis=0)
    if float(np.square(mono).sum()) < 0.3 * float(np.square(signal).sum(axis=1).max(initial=0.0)):
        mono = signal[int(np.argmax(np.square(signal).sum(axis=1)))]
    return Clip(mono, rate) if mono.any() else None


def joined(clips: list[Clip], shortest: float) -> Iterator[Clip]:
    """Clips of at most about 12 s, cross-faded within the background that each part brings; longer parts are split."""
    held = np.zeros(0, np.float32)
    for index, clip in enumerate(clips):
        size, fade = round(CLIP_SECONDS * clip.rate), round(CROSSFADE_SECONDS * clip.rate)
        for start in range(0, len(clip.samples), size):
            part = clip.samples[start : start + size]
            if len(held) + len(part) > size and len(held):
                yield Clip(held, clip.rate)
                held = held[:0]
            overlap = min(fade, len(held), len(part))
            ramp = np.linspace(0.0, 1.0, overlap, dtype=np.float32)
            middle = held[len(held) - overlap :] * (1.0 - ramp) + part[:overlap] * ramp
            held = np.concatenate([held[: len(held) - overlap], middle, part[overlap:]])
        last = index + 1 == len(clips) or clips[index + 1].rate != clip.rate
        if last and len(held) >= shortest * clip.rate:
            yield Clip(held, clip.rate)
        held = held[:0] if last else held


def trimmed(clip: Clip) -> Samples:
    """The samples without silence at their ends, but for 0.12 s of the recording's own background where it has some."""
    sounding = np.flatnonzero(np.abs(clip.samples) > 2.0**-15)
    if not len(sounding):
        return clip.samples[:0]
    samples = clip.samples[sounding[0] : sounding[-1] + 1]
    level = frame_levels(samples, clip.rate)
    loud = np.percentile(level, 95)
    threshold = min(max(loud - 45.0, np.percentile(level, 10) + 8.0), loud - 25.0)
    active = np.flatnonzero(level > threshold)
    frame, margin = round(FRAME_SECONDS * clip.rate), round(MARGIN_SECONDS * clip.rate)
    return samples[max(0, active[0] * frame - margin) : (active[-1] + 1) * frame + margin] if len(active) else samples


def measured(source: Source, clip: Clip, samples: Samples) -> dict[str, str]:
    """A clip's row of the index but for its path; `samples` (1, n) is the clip at 48 kHz."""
    reach = estimate_bandwidth(clip.samples[None], clip.rate)
    edge = RESAMPLER_EDGE * clip.rate / 2 if clip.rate < RATE else RATE / 2
    values = [source.kind, source.source, source.collection, f"{samples.shape[1] / RATE:.2f}", str(clip.rate)]
    values += [f"{min(reach, edge):.0f}", f"{np.percentile(frame_levels(samples[0], RATE), 3):.1f}"]
    values += [f"{min(sound_edge(samples[0], RATE), reach, edge):.0f}" if source.kind == "speech" else ""]
    values += [clip.piece, f"{source.licence} ({source.origin})"]
    return dict(zip(COLUMNS[1:], values, strict=True))


if __name__ == "__main__":
    main()
