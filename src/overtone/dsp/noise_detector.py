"""Whether noise lies behind a voice, and how loud it is: a network of 0.05 M weights that is part of the code.

It looks at levels of bands below 8 kHz, frame by frame, through convolutions over time, and pools what they find over all
of a recording. It knows voices in noise from clean voices, with their rooms and gaps, and from music. Computed by NumPy;
`released/train_detector.py` trains it and writes `noise_detector.npz`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from importlib import resources

import numpy as np
import numpy.typing as npt

from overtone.audio import Signal, resample

Floats = npt.NDArray[np.float32]

RATE = 16_000
WINDOW, HOP = 512, 256
# Bins at which bands begin: single bins at first, then ever wider; the last is the end.
EDGES = np.concatenate([np.arange(2, 13), np.geomspace(13, WINDOW // 2, 25).round().astype(int)])
BANDS = len(EDGES) - 1
WIDTHS = np.diff(EDGES)
# Frames between those that a convolution weighs, one figure a layer, and how many it weighs.
DILATIONS, TAPS = (1, 2, 4), 5
# Decibels that the second output counts in.
SCALE_DB = 10.0
# Log10 power below the loud frames, and above them, that is told apart; the share of frames that are loud.
LOWEST, HIGHEST, LOUD = -7.0, 3.0, 0.25
_SILENT = 1e-12
# Fewer frames than the convolutions look at tell nothing.
_LEAST_FRAMES = 40
# How sure it has to be, as log odds: of clean voices and music of the validation split one in a hundred is surer.
SURE = 1.0


def levels(mono: Floats) -> Floats:
    """Log10 power of bands by frame.

    Shape:
        (samples,) at `RATE` -> (frames, BANDS).
    """
    window = np.hanning(WINDOW).astype(np.float32)
    padded = np.pad(mono, (0, max(0, WINDOW - len(mono))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * window, axis=-1)[:, : EDGES[-1]]) ** 2
    power = np.add.reduceat(power, EDGES[:-1], axis=1) / (WIDTHS * np.square(window).sum())
    return np.asarray(np.log10(power + _SILENT), np.float32)


def features(parts: Sequence[Floats]) -> list[Floats]:
    """Levels against those of the loud frames of all parts together. Shape: (frames, BANDS) each, in and out."""
    means = np.sort(np.concatenate([part.mean(axis=1) for part in parts]))
    loud = means[-max(1, round(LOUD * len(means))) :].mean()
    return [np.clip(part - loud, LOWEST, HIGHEST) / 2 for part in parts]


def odds(parts: Sequence[Floats], weights: Mapping[str, Floats]) -> tuple[float, float]:
    """What the network says of some features: log odds of noise behind a voice, and the signal-to-noise ratio in dB.

    Shape:
        (frames, BANDS) each.
    """
    hidden = np.concatenate([_convolved(part, weights) for part in parts])
    mean, deviation = hidden.mean(axis=0), np.sqrt(hidden.var(axis=0) + 1e-4)
    highest = 2 * hidden.max(axis=0)
    peak = (np.log(np.exp(2 * hidden - highest).mean(axis=0)) + highest) / 2
    pooled = np.maximum(_linear(np.concatenate([mean, deviation, peak]), weights, "pooled"), 0)
    sure, ratio = _linear(pooled, weights, "out")
    return float(sure), float(SCALE_DB * ratio)


def noise_behind_voice(excerpts: Sequence[Signal], rate: int) -> float:
    """Signal-to-noise ratio in dB of a voice; inf where there is no voice, or no noise behind it.

    Args:
        excerpts: of a recording, (channels, samples) each, any level.
        rate: Hz.
    """
    parts = [levels(resample(one.mean(axis=0, keepdims=True), rate, RATE)[0]) for one in excerpts if one.shape[1]]
    parts = [part for part in parts if len(part) >= _LEAST_FRAMES]
    if not parts or max(float(part.max()) for part in parts) < np.log10(_SILENT) + 2:
        return math.inf
    sure, ratio = odds(features(parts), _weights())
    return ratio if sure > SURE else math.inf


@functools.cache
def _weights() -> dict[str, Floats]:
    with resources.files(__package__).joinpath("noise_detector.npz").open("rb") as file, np.load(file) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}


def _linear(values: Floats, weights: Mapping[str, Floats], name: str) -> Floats:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _convolved(part: Floats, weights: Mapping[str, Floats]) -> Floats:
    """Shape: (frames, BANDS) -> (fewer frames, width)."""
    hidden = np.maximum(_linear(part, weights, "bands"), 0)
    for layer, dilation in enumerate(DILATIONS):
        kernel, reach = weights[f"convolutions.{layer}.weight"], (TAPS - 1) * dilation
        count = len(hidden) - reach
        made = sum(hidden[tap * dilation :][:count] @ kernel[..., tap].T for tap in range(TAPS))
        centre = hidden[reach // 2 :][:count]
        hidden = np.maximum(made + weights[f"convolutions.{layer}.bias"], 0) + centre
    return hidden
