"""What `extend` is given: levels of the visible bands, slow trackers of each, and perhaps a profile of the recording chain.

Arrays are of NumPy or torch (see `dsp.backend`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from overtone.dsp.backend import Array, namespace, ramp, running_maximum, running_minimum
from overtone.dsp.bands import BANDS, ROUNDING

# Classes of loudness that a profile has a curve for.
CLASSES = 3
# Values of a profile as the network is given it: a curve a class and whether there is one at all.
PROFILE = CLASSES * BANDS + 1
FEATURES = 4 * BANDS + 1
# log10 power a frame by which the floor rises and the peak falls until a level passes them: 1 dB a second.
DRIFT = 0.1 * 512 / 48_000
# A typical level, which features are centred on.
_TYPICAL = -3.0


@dataclass
class Trackers:
    """Floor and peak of each band after the last frame, (B, BANDS); None before the first."""

    floor: Any = None
    peak: Any = None

    def push(self, levels: Array) -> tuple[Array, Array]:
        """Floor and peak in each of the next frames. Shape: (B, N, BANDS) -> twice (B, N, BANDS)."""
        xp = namespace(levels)
        time = ramp(levels, DRIFT)
        floor, peak = running_minimum(levels - time), running_maximum(levels + time)
        if self.floor is not None:
            floor, peak = xp.minimum(floor, self.floor[:, None]), xp.maximum(peak, self.peak[:, None])
        floor, peak = floor + time, peak - time
        self.floor, self.peak = floor[:, -1], peak[:, -1]
        return floor, peak


def mean_level(levels: Array, visible: Array) -> Array:
    """Mean over the visible bands. Shape: levels (B, N, BANDS), visible (B, BANDS) -> (B, N, 1)."""
    xp = namespace(levels)
    share = visible / xp.clip(xp.sum(visible, axis=-1, keepdims=True), min=1)
    mean: Array = xp.sum(levels * share[:, None], axis=-1, keepdims=True)
    return mean


def features(levels: Array, visible: Array, trackers: Trackers) -> tuple[Array, Array]:
    """What the network is given of some frames, and the mean level that its output is relative to.

    Args:
        levels: log10 power of bands; those that are not visible do not matter.
        visible: float, 1 for the bands that lie below the cutoff.
        trackers: of the frames before; advanced.

    Shape:
        levels (B, N, BANDS), visible (B, BANDS) -> (B, N, FEATURES), (B, N, 1).
    """
    seen = visible[:, None]
    # Below the rounding of 16-bit audio levels say nothing about the sound.
    xp = namespace(levels)
    levels = xp.clip(levels, min=ROUNDING - 0.6)
    mean = mean_level(levels, visible)
    floor, peak = trackers.push(levels)
    parts = (
        (levels - mean) * seen / 2,
        (floor - _TYPICAL) * seen / 3,
        (peak - _TYPICAL) * seen / 3,
        xp.broadcast_to((visible - 0.5)[:, None], levels.shape),
        (mean - _TYPICAL) / 3,
    )
    return xp.concatenate(parts, axis=-1), mean


def profile_of(levels: Array, visible: Array) -> Array:
    """The condition that a reference makes: mean levels of its loud, middling and quiet frames, and a one.

    Levels are relative to the mean of the visible bands in the loud frames, so that a reference may be louder or softer
    than what it is a reference for.

    Args:
        levels: log10 power of all bands of a full-band reference, at least `CLASSES` frames.
        visible: float, 1 for the bands below the cutoff of what is to be extended.

    Shape:
        levels (B, M, BANDS), visible (B, BANDS) -> (B, PROFILE).
    """
    xp, (batch, count, _) = namespace(levels), levels.shape
    levels = xp.clip(levels, min=ROUNDING - 0.6)
    order = xp.argsort(-mean_level(levels, visible)[..., 0], axis=1)
    ordered = levels[xp.arange(batch)[:, None], order]
    edges = [round(i * count / CLASSES) for i in range(CLASSES + 1)]
    curves = xp.stack([xp.mean(ordered[:, a:b], axis=1) for a, b in itertools.pairwise(edges)], axis=1)
    relative = (curves - mean_level(curves[:, :1], visible)) / 2
    condition: Array = xp.concatenate((relative.reshape(batch, -1), xp.ones_like(levels[:, 0, :1])), axis=1)
    return condition
