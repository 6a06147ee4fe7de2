"""What `restore` is given, and what is made of its output: a bounded complex gain and a short complex filter.

Up to about 4.5 kHz, where harmonics of voices can be told apart, every bin has a gain of its own; above it, groups of bins
share one. A simple noise estimate (a slow floor of the smoothed power) is at the network's hand, as a feature and as the
logarithm of a Wiener filter that each gain may follow as far as the network wants. In the single bins it may turn the phase
and add what the two frames before hold. Arrays are of NumPy or torch (see `dsp.backend`).
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
    ramp,
    running_maximum,
    running_minimum,
    sigmoid,
    single,
)
from overtone.dsp.stft import BINS

# Bins with a gain of their own; then groups, at first of two bins, then ever wider.
SINGLE = 96
EDGES: npt.NDArray[np.int64] = np.unique(
    np.concatenate([np.arange(SINGLE), np.arange(SINGLE, 128, 2), np.round(np.geomspace(128, BINS, 26)).astype(int)])
)
GROUPS = len(EDGES) - 1
# Earlier frames that the complex filter of the single bins adds.
TAPS = 2
FEATURES = 3 * GROUPS + 1
OUTPUTS = 2 * GROUPS + SINGLE + 2 * TAPS * SINGLE
_FLOOR = 1e-10
# Frames that the power is averaged over before its floor is looked for: single frames of noise have deep dips.
SMOOTHED = 8
# Natural log of power a frame by which the floor rises: 5 dB a second.
_DRIFT = 1.15 * 512 / 48_000
# What the floor of the averaged power of noise lies below its mean, as a factor of power.
_BIAS = 2.0
# Least a-priori ratio that a gain is made of.
_LEAST_RATIO = 0.05
# Added to the logit of a gain: an untrained network lets four fifths through.
_OPEN = 1.5


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
        powers: of the frames before, (B, at most SMOOTHED - 1, GROUPS).
        floor: (B, GROUPS), and level: (B, 1), natural log of power.
    """

    powers: Any = None
    floor: Any = None
    level: Any = None


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
    frames = power.shape[1]
    joined = power if past.powers is None else xp.concatenate((past.powers, power), axis=1)
    # At the beginning the average is over what there is.
    silence = xp.zeros_like(xp.broadcast_to(joined[:, :1], (len(joined), SMOOTHED, GROUPS)))
    sums = xp.cumsum(xp.concatenate((silence, joined), axis=1), axis=1, dtype=xp.float64)
    window = single((sums[:, SMOOTHED:] - sums[:, :-SMOOTHED])[:, -frames:])
    counts = np.arange(joined.shape[1] - frames + 1, joined.shape[1] + 1).clip(max=SMOOTHED)
    smooth = xp.log(xp.clip(window, min=_FLOOR) / like(counts.astype(np.float32), power)[:, None])
    past.powers = joined[:, -(SMOOTHED - 1) :]
    seen = visible[:, None]
    share = seen / xp.clip(xp.sum(seen, axis=-1, keepdims=True), min=1)
    loudness = xp.sum(smooth * share, axis=-1, keepdims=True)
    time = ramp(power, _DRIFT)
    floor, peak = running_minimum(smooth - time), running_maximum(loudness + time)
    if past.floor is not None:
        floor, peak = xp.minimum(floor, past.floor[:, None]), xp.maximum(peak, past.level[:, None])
    floor, peak = floor + time, peak - time
    past.floor, past.level = floor[:, -1], peak[:, -1]
    level = xp.log(power)
    ratio = xp.log(xp.clip(xp.exp(level - floor) / _BIAS - 1, min=_LEAST_RATIO))
    parts = (
        xp.clip(level - peak, min=-20) * seen / 5,
        xp.clip(floor - peak, min=-20) * seen / 5,
        xp.broadcast_to(seen, level.shape) - 0.5,
        (peak + 7) / 7,
    )
    return xp.concatenate(parts, axis=-1), ratio


def group_visible(visible_bins: Array) -> Array:
    """Which groups lie below a cutoff whole. Shape: bool (..., BINS) -> float (..., GROUPS)."""
    known = single(visible_bins)
    return single(known @ constant(_grouping, known) > 0.999)


def apply(values: Array, ratio: Array, spectrum: Array, before: Array) -> Array:
    """The restored spectrum.

    A gain's modulus is sigmoid(a ln xi + 2 d + 1.5), below 1, with a within -1 and 1; in the single bins it is turned by up to
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
    modulus = sigmoid(xp.tanh(slope) * ratio + 2 * offset + _OPEN)
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
