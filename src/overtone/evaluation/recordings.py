"""A user's own recordings under the project's conditions."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from overtone import audio
from overtone.data import manifest, pairs
from overtone.data.catalog import KINDS
from overtone.data.corpus import MANIFEST, Clip, read_manifest
from overtone.data.pairs import Pair
from overtone.dsp.bandwidth import dependable_bandwidth, estimate_bandwidth
from overtone.evaluation.judge import JudgeError
from overtone.settings import Params

RATE = 48_000
# Shorter ones say nothing.
MIN_SECONDS = 0.5


def make(folder: Path, params: Params, corpus: Path, out: Path) -> list[Pair]:
    """Full-band recordings -> pairs under every condition, in `out`.

    A recording's kind is that of the folder it is in (`speech`, `music`, `other`), `speech` where that says nothing; each
    file is a source of its own. Noise is that of the project's test split, pink where there is none.

    Args:
        folder: of audio files, and folders of them.
        params: the project's conditions.
        corpus: output of the stage corpus, whose noise is used; it need not be there.
        out: an empty folder; gets `corpus` and `pairs`.

    Raises:
        JudgeError: no such folder, or no recording of at least half a second in it.
        overtone.audio.AudioError: a file is not usable audio.
    """
    made = out / "corpus"
    made.mkdir(parents=True)
    clips = [*_clips(folder, made), *_noise(corpus, made)]
    manifest.write(made / MANIFEST, Clip, clips)
    every = params.degrade.model_copy(update={"clips": len(clips)})
    pairs.build(every, params.seed, made, out / "pairs")
    return pairs.read_pairs(out / "pairs", "test")


def _clips(folder: Path, out: Path) -> Iterator[Clip]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in audio.EXTENSIONS)
    if not paths:
        raise JudgeError(f"{folder}: holds no audio; expected a folder of full-band recordings")
    found = False
    for number, path in enumerate(paths):
        signal, rate = audio.read(path)
        audio.check_samples(str(path), signal)
        if not signal.size or signal.shape[1] < MIN_SECONDS * rate:
            continue
        found = True
        signal = audio.resample(signal[:2], rate, RATE)
        name = f"{re.sub(r'[^A-Za-z0-9_-]+', '_', path.stem)}_{number:03d}"
        audio.write(out / f"{name}.flac", signal, RATE, "PCM_16")
        reach = min(estimate_bandwidth(signal, RATE), rate / 2)
        kind = path.parent.name if path.parent.name in KINDS else "speech"
        yield Clip(
            clip=name, path=f"{name}.flac", kind=kind, collection=folder.name, source=name, split="test", rate=RATE,
            channels=signal.shape[0], seconds=signal.shape[1] / RATE, frames=signal.shape[1],
            bandwidth_hz=min(reach, dependable_bandwidth(signal, RATE, reach)), edge_hz=reach, digest="",
            origin=str(path.relative_to(folder)), start_seconds=0.0,
        )  # fmt: skip
    if not found:
        raise JudgeError(f"{folder}: no recording is {MIN_SECONDS:g} s long; expected at least one")


def _noise(corpus: Path, out: Path) -> Iterator[Clip]:
    if not (corpus / MANIFEST).is_file():
        return
    for clip in read_manifest(corpus):
        if clip.split == "test" and clip.kind == "noise":
            (out / clip.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(corpus / clip.path, out / clip.path)
            yield clip
