"""What `restore` is given, and what is made of its output: a bounded complex gain and a short complex filter.

Up to about 4.5 kHz, where harmonics of voices can be told apart, every bin has a gain of its own; above it, groups of bins
share one. A statistical estimate of the noise is at the network's hand, as a feature and as the logarithm of the Wiener
filter that each gain starts from: an untrained network is that filter. In the single bins it may turn the phase and add
what the two frames before hold. Arrays are of NumPy or torch (see `dsp.backend`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from overtone.dsp import bands
from overtone.dsp.backend import (
    Array,
    complex_of,
    constant,
    inverse_root,
    like,
    namespace,
    numpy_of,
    ramp,
    running_maximum,
    sigmoid,
    single,
)
from overtone.dsp.noise_estimate import NoiseEstimate
from overtone.dsp.stft import BINS

# Bins with a gain of their own; then groups, at first of two bins, then ever wider.
SINGLE = 96
EDGES: npt.NDArray[np.int64] = np.unique(
    np.concatenate([np.arange(SINGLE), np.arange(SINGLE, 128, 2), np.round(np.geomspace(128, BINS, 26)).astype(int)])
)
GROUPS = len(EDGES) - 1
# Earlier frames that the complex filter of the single bins adds.
TAPS = 2
FEATURES = 4 * GROUPS + 1
OUTPUTS = 2 * GROUPS + SINGLE + 2 * TAPS * SINGLE
_FLOOR = 1e-10
# Frames that the loudness is averaged over.
SMOOTHED = 8
# Natural log of power a frame by which the greatest loudness so far is forgotten: 5 dB a second.
_DRIFT = 1.15 * 512 / 48_000


@functools.cache
def _grouping() -> npt.NDArray[np.float32]:
    return bands.averaging(EDGES)


@functools.cache
def _spreading() -> npt.NDArray[np.float32]:
    return bands.interpolation(EDGES)


@dataclass
class Past:
    """What the features of the next frame need of those before; None before the first.

    Attributes:
        noise: the estimate of the noise.
        loudness: of the frames before, (B, at most SMOOTHED - 1, 1), natural log of power.
        peak: the greatest loudness so far, slowly forgotten, (B, 1).
    """

    noise: NoiseEstimate | None = None
    loudness: Any = None
    peak: Any = None


def features(spectrum: Array, visible: Array, past: Past) -> tuple[Array, Array]:
    """What the network is given of some frames, and the log of the a-priori ratio that its gains start from.

    Args:
        visible: float, 1 for the groups that lie below the cutoff.
        past: of the frames before; advanced.

    Shape:
        spectrum complex (B, N, BINS), visible (B, GROUPS) -> (B, N, FEATURES), (B, N, GROUPS).
    """
    xp = namespace(spectrum)
    power = xp.square(spectrum.real) + xp.square(spectrum.imag)
    power = power @ constant(_grouping, power) + _FLOOR
    if past.noise is None:
        past.noise = NoiseEstimate(len(power), GROUPS)
    noise, ratio = (like(np.log(found), power) for found in past.noise.advance(numpy_of(power)))
    level, seen = xp.log(power), visible[:, None]
    peak = _peak(level, seen, past)
    parts = (
        xp.clip(level - peak, min=-20) * seen / 5,
        xp.clip(noise - peak, min=-20) * seen / 5,
        xp.clip(ratio, min=-6, max=6) * seen / 4,
        xp.broadcast_to(seen, level.shape) - 0.5,
        (peak + 7) / 7,
    )
    return xp.concatenate(parts, axis=-1), ratio


def _peak(level: Array, seen: Array, past: Past) -> Array:
    """The greatest mean level of the groups below the cutoff so far, smoothed and slowly forgotten. Shape: (B, N, 1)."""
    xp, frames = namespace(level), level.shape[1]
    share = seen / xp.clip(xp.sum(seen, axis=-1, keepdims=True), min=1)
    joined = xp.sum(level * share, axis=-1, keepdims=True)
    if past.loudness is not None:
        joined = xp.concatenate((past.loudness, joined), axis=1)
    past.loudness = joined[:, -(SMOOTHED - 1) :]
    # At the beginning the average is over what there is.
    silence = xp.zeros_like(xp.broadcast_to(joined[:, :1], (len(joined), SMOOTHED, 1)))
    sums = xp.cumsum(xp.concatenate((silence, joined), axis=1), axis=1, dtype=xp.float64)
    window = single((sums[:, SMOOTHED:] - sums[:, :-SMOOTHED])[:, -frames:])
    counts = np.arange(joined.shape[1] - frames + 1, joined.shape[1] + 1).clip(max=SMOOTHED)
    time = ramp(level, _DRIFT)
    peak = running_maximum(window / like(counts.astype(np.float32), level)[:, None] + time)
    if past.peak is not None:
        peak = xp.maximum(peak, past.peak[:, None])
    peak = peak - time
    past.peak = peak[:, -1]
    out: Array = peak
    return out


def group_visible(visible_bins: Array) -> Array:
    """Which groups lie below a cutoff whole. Shape: bool (..., BINS) -> float (..., GROUPS)."""
    known = single(visible_bins)
    return single(known @ constant(_grouping, known) > 0.999)


def apply(values: Array, ratio: Array, spectrum: Array, before: Array) -> Array:
    """The restored spectrum.

    A gain's modulus is sigmoid((1 + a) ln xi + 2 d), below 1, with a within -1 and 1; in the single bins it is turned by up to
    45 degrees, and `TAPS` earlier frames are added, each through a complex factor of modulus below 1.

    Args:
        values: the network's.
        ratio: ln xi, from `features`.
        before: the `TAPS` frames before the first.

    Shape:
        values (B, N, OUTPUTS), ratio (B, N, GROUPS), spectrum complex (B, N, BINS), before complex (B, TAPS, BINS)
        -> complex (B, N, BINS).
    """
    xp, frames, turned = namespace(values), spectrum.shape[1], 2 * GROUPS + SINGLE
    slope, offset = values[..., :GROUPS], values[..., GROUPS : 2 * GROUPS]
    modulus = sigmoid((1 + xp.tanh(slope)) * ratio + 2 * offset)
    modulus = modulus @ constant(_spreading, modulus)
    turn = xp.tanh(values[..., 2 * GROUPS : turned])
    low = modulus[..., :SINGLE] * inverse_root(1 + xp.square(turn))
    joined = xp.concatenate((before, spectrum), axis=1)[..., :SINGLE]
    made = complex_of(low, low * turn) * spectrum[..., :SINGLE]
    taps = xp.tanh(values[..., turned:]).reshape(*values.shape[:-1], 2, TAPS, SINGLE)
    factor = complex_of(taps[..., 0, :, :], taps[..., 1, :, :]) / 2**0.5
    for tap in range(TAPS):
        # Tap 0 is the frame before, tap 1 the one before that.
        start = TAPS - 1 - tap
        made = made + factor[..., tap, :] * joined[:, start : start + frames]
    out: Array = xp.concatenate((made, modulus[..., SINGLE:] * spectrum[..., SINGLE:]), axis=-1)
    return out
