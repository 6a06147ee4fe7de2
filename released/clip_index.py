"""What `gather.py` writes of each clip into `index.csv`: levels, the end of the recording's band and of its sound."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from overtone import audio
from overtone.dsp.bandwidth import ROUNDING_POWER

COLUMNS = (
    "path",
    "kind",
    "source",
    "collection",
    "seconds",
    "native_rate",
    "bandwidth_hz",
    "floor_db",
    "sound_edge_hz",
    "piece",
    "licence_or_package",
)
FRAME_SECONDS = 0.01
STANDS_OUT_DB = 12.0
# Consonants fill less than this share of the frames of speech: where only so many frames hold anything, they are all there is.
MOSTLY_HOLES = 0.25
SOME_HOLES = 0.02

Samples = npt.NDArray[np.float32]


def read_index(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_index(path: Path, rows: list[dict[str, str]]) -> None:
    with audio.replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["path"]))


def sound_edge(samples: Samples, rate: int) -> float:
    """Hz up to which the loudest moments (98th percentile of frames) stand 12 dB above the quiet ones (10th).

    Powers are averaged over 500 Hz before the percentiles, which for steady noise then lie some 4 dB apart. The edge is
    below the first 1 kHz in which nothing stands out: above it, encoders that drop steady noise from some frames
    imitate sound. Where there are such holes, the median of the other frames is what is quiet.
    """
    size = 2048
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, size)), size)[:: size // 2]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1))) / np.square(np.hanning(size)).sum()
    power = uniform_filter1d(power, round(500 * size / rate), axis=1) + ROUNDING_POWER
    held = np.where(power > 10 * ROUNDING_POWER, power, np.nan)
    share = np.isfinite(held).mean(axis=0)
    loud, quiet = np.percentile(power, [98, 10], axis=0)
    holes = (share < 1 - SOME_HOLES) & (share > MOSTLY_HOLES)
    quiet[holes] = np.nanmedian(held[:, holes], axis=0)
    start, gap = round(2000 * size / rate), round(1000 * size / rate)
    stands = np.flatnonzero(loud[start:] > quiet[start:] * 10 ** (STANDS_OUT_DB / 10)) + start
    if not len(stands):
        return 0.0
    ends = np.flatnonzero(np.diff(stands) > gap)
    return float(stands[ends[0] if len(ends) else -1] * rate / size)


def frame_levels(samples: Samples, rate: int) -> npt.NDArray[np.float32]:
    """RMS levels of frames of 10 ms, dB of full scale, at least -120."""
    frame = min(round(FRAME_SECONDS * rate), len(samples))
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    return np.asarray(10 * np.log10(np.square(frames).mean(axis=1) + 1e-12), np.float32)


def level_db(samples: Samples) -> float:
    """RMS level, dB of full scale."""
    return float(10 * np.log10(np.square(samples).mean() + 1e-12))
