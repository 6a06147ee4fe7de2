"""Long recordings cut into clips at the canonical rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from overtone import audio
from overtone.settings import CorpusParams


def pieces(path: Path, info: audio.Info, params: CorpusParams) -> Iterator[tuple[float, audio.Signal]]:
    """(start in seconds, clip at the canonical rate), in order; holds one clip at a time.

    Each clip is resampled with a little of its neighbours, so that cutting leaves no trace at its ends.
    """
    source, target = info.rate, params.rate
    size = max(1, round(params.clip_seconds * source))
    common = math.gcd(source, target)
    # Whole periods of the resampling ratio, so that the margin is a whole number of samples at both rates.
    periods = -(-source // (20 * (source // common)))
    margin, margin_out = periods * source // common, periods * target // common
    previous, current, start = np.zeros((info.channels, 0), np.float32), None, 0
    for block in _with_end(audio.blocks(path, size)):
        if current is not None:
            following = np.zeros((info.channels, 0), np.float32) if block is None else block[:, :margin]
            if current.shape[1] >= params.min_seconds * source:
                whole = audio.resample(np.concatenate([previous, current, following], axis=1), source, target)
                lead = margin_out if previous.shape[1] else 0
                yield start / source, whole[:, lead:][:, : audio.resampled_length(current.shape[1], source, target)]
            start += current.shape[1]
            previous = current[:, -margin:] if current.shape[1] >= margin else previous[:, :0]
        current = block


def _with_end(blocks: Iterator[audio.Signal]) -> Iterator[audio.Signal | None]:
    yield from blocks
    yield None
