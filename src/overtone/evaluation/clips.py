"""The clips to listen to: excerpts with spectrograms, as text that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.image import imsave

from overtone import audio
from overtone.audio import Signal
from overtone.data.pairs import Pair
from overtone.evaluation import figures
from overtone.evaluation.judge import Enhancer, Progress, loudest, read
from overtone.evaluation.shown import System

SECONDS = 3.0
# What clips are chosen by.
METRIC = "lsd"
_ROWS = 256


@dataclass(frozen=True)
class Sound:
    """What is heard and seen: a name, data URIs of an MP3 file and of a picture, the clip's score where it has one."""

    name: str
    audio: str
    picture: str
    score: float | None = None


@dataclass(frozen=True)
class Card:
    """One clip: input, what each system makes of it, target. `cutoff` is the share of the pictures' height that was known."""

    title: str
    note: str
    cutoff: float
    sounds: tuple[Sound, ...]


def worst(systems: Sequence[System], conditions: Sequence[str]) -> list[tuple[str, str]]:
    """(condition, clip) of the highest LSD of any of the systems, for each kind under each of some conditions."""
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for one in (clip for system in systems for clip in system.clips if METRIC in clip.scores):
        if one.condition in conditions:
            place = (one.condition, one.kind)
            found[place] = max(found.get(place, (-1.0, "")), (one.scores[METRIC], one.clip))
    return [(condition, clip) for (condition, _), (_, clip) in sorted(found.items())]


def cards(
    wanted: Sequence[tuple[str, str]],
    pairs: Sequence[Pair],
    folder: Path,
    makers: Mapping[str, Callable[[], Enhancer]],
    systems: Sequence[System],
    progress: Progress | None = None,
) -> list[Card]:
    """The clips as a page shows them, each enhanced afresh as the evaluation did it, on one thread, and then cut.

    Args:
        wanted: (condition, clip) of each; those that are no pairs are left out.
        pairs: the evaluation pairs.
        folder: what their paths are relative to.
        makers: name -> makes the system that is heard.
        systems: whose scores stand beside the sounds.
        progress: called with (clips done, clips in all).
    """
    known = {(pair.condition, pair.clip): pair for pair in pairs}
    chosen = [known[key] for key in wanted if key in known]
    scores = {
        (system.name, one.condition, one.clip): one.scores.get(METRIC) for system in systems for one in system.clips
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = {name: make() for name, make in makers.items()}
        found = []
        for done, pair in enumerate(chosen, 1):
            own = {name: scores.get((name, pair.condition, pair.clip)) for name in made}
            found.append(_card(pair, folder, made, own))
            if progress:
                progress(done, len(chosen))
        return found
    finally:
        torch.set_num_threads(threads)


def _card(pair: Pair, folder: Path, systems: Mapping[str, Enhancer], scores: Mapping[str, float | None]) -> Card:
    before, target = read(folder, pair)
    part = loudest(target, pair.rate, SECONDS)
    sounds = tuple(
        Sound(name, mp3(cut, pair.rate), picture(cut), scores.get(name))
        for name, cut in _signals(pair, before, target, systems, part)
    )
    note = f"{pair.kind}, {pair.input_rate / 1000:g} kHz in; {(part.stop - part.start) / pair.rate:.1f} s"
    return Card(f"{pair.condition}: {pair.clip}", note, pair.cutoff_hz / (pair.rate / 2), sounds)


def _signals(
    pair: Pair, before: Signal, target: Signal, systems: Mapping[str, Enhancer], part: slice
) -> Iterator[tuple[str, Signal]]:
    def cut(signal: Signal) -> Signal:
        return np.ascontiguousarray(audio.fit_length(signal, pair.frames)[:, part], dtype=np.float32)

    yield "input", cut(audio.resample(before, pair.input_rate, pair.rate))
    for name, system in systems.items():
        yield name, cut(system.enhance(before, pair.input_rate))
    yield "target", cut(target)


def mp3(signal: Signal, rate: int) -> str:
    """A signal (channels, samples) as MP3, level and channels untouched; the same signal gives the same text."""
    data = audio.encode(np.clip(signal, -1.0, 1.0), rate, "MP3", "MPEG_LAYER_III")
    return _uri("audio/mpeg", data)


def picture(signal: Signal) -> str:
    """The spectrogram of a signal (channels, samples) as WebP: time to the right, 0 to half the rate upwards."""
    low, high = figures.LEVELS_DB
    level = figures.spectrogram_db(signal)
    bins = level.shape[0] - 1
    pooled = level[:bins].reshape(_ROWS, bins // _ROWS, -1).mean(axis=1)
    shade = np.clip((pooled - low) / (high - low), 0.0, 1.0)[::-1]
    colours = np.round(255 * colormaps["magma"](shade)[..., :3]).astype(np.uint8)
    buffer = io.BytesIO()
    imsave(buffer, colours, format="webp", pil_kwargs={"quality": 75, "method": 6})
    return _uri("image/webp", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
