"""Restoration: noise taken out of the band below the cutoff by a bounded complex gain and a short complex filter.

Up to about 4.5 kHz, where harmonics of voices can be told apart, every bin has a gain of its own; above it, groups of bins
share one. A simple noise estimate (a slow floor of the smoothed power) is at the network's hand, as a feature and as the
logarithm of a Wiener filter that each gain may follow as far as the network wants. In the single bins it may turn the phase
and add what the two frames before hold.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from overtone.dsp.stft import BINS
from overtone.models.body import Body

# Bins with a gain of their own; then groups, at first of two bins, then ever wider.
SINGLE = 96
EDGES: npt.NDArray[np.int64] = np.unique(
    np.concatenate([np.arange(SINGLE), np.arange(SINGLE, 128, 2), np.round(np.geomspace(128, BINS, 26)).astype(int)])
)
GROUPS = len(EDGES) - 1
_CENTRES = (EDGES[:-1] + EDGES[1:] - 1) / 2
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
@torch.inference_mode(False)  # to be of use in training, whoever asks first
def _grouping() -> Tensor:
    matrix = np.zeros((BINS, GROUPS), np.float32)
    for group, (low, high) in enumerate(itertools.pairwise(EDGES)):
        matrix[low:high, group] = 1 / (high - low)
    return torch.from_numpy(matrix)


@functools.cache
@torch.inference_mode(False)  # to be of use in training, whoever asks first
def _spreading() -> Tensor:
    """Values of groups interpolated linearly to bins. Shape: (GROUPS, BINS)."""
    rows = [np.interp(np.arange(BINS), _CENTRES, unit) for unit in np.eye(GROUPS)]
    return torch.from_numpy(np.array(rows, np.float32))


@dataclass
class Past:
    """What the features of the next frame need of those before: powers (B, SMOOTHED - 1, GROUPS), floor (B, GROUPS)."""

    powers: Tensor
    floor: Tensor
    level: Tensor

    @classmethod
    def start(cls, batch: int, device: torch.device | str = "cpu") -> Past:
        """Before the first frame."""
        return cls(
            torch.zeros(batch, 0, GROUPS, device=device),
            torch.full((batch, GROUPS), 50.0, device=device),
            torch.full((batch, 1), -50.0, device=device),
        )


def features(spectrum: Tensor, visible: Tensor, past: Past) -> tuple[Tensor, Tensor]:
    """What the network is given of some frames, and the log of the a-priori ratio that its gains start from.

    Args:
        visible: float, 1 for the groups that lie below the cutoff.
        past: of the frames before; advanced.

    Shape:
        spectrum complex (B, N, BINS), visible (B, GROUPS) -> (B, N, FEATURES), (B, N, GROUPS).
    """
    power = (spectrum.real.square() + spectrum.imag.square()) @ _grouping().to(spectrum.device) + _FLOOR
    frames = power.shape[1]
    joined = torch.cat((past.powers, power), dim=1)
    # At the beginning the average is over what there is.
    sums = torch.cumsum(torch.nn.functional.pad(joined, (0, 0, SMOOTHED, 0)).double(), dim=1)
    window = (sums[:, SMOOTHED:] - sums[:, :-SMOOTHED])[:, -frames:].float()
    counts = torch.arange(joined.shape[1] - frames + 1, joined.shape[1] + 1, device=power.device).clamp(max=SMOOTHED)
    smooth = torch.log(window.clamp(min=_FLOOR) / counts[:, None])
    past.powers = joined[:, -(SMOOTHED - 1) :]
    time = torch.arange(1, frames + 1, device=power.device, dtype=power.dtype)[:, None] * _DRIFT
    floor = torch.minimum(torch.cummin(smooth - time, dim=1).values, past.floor[:, None]) + time
    past.floor = floor[:, -1]
    seen = visible[:, None]
    level = torch.log(power)
    share = seen / seen.sum(-1, keepdim=True).clamp(min=1)
    loudness = (smooth * share).sum(-1, keepdim=True)
    peak = torch.maximum(torch.cummax(loudness + time, dim=1).values, past.level[:, None]) - time
    past.level = peak[:, -1]
    ratio = torch.log((torch.exp(level - floor) / _BIAS - 1).clamp(min=_LEAST_RATIO))
    parts = (
        (level - peak).clamp(min=-20) * seen / 5,
        (floor - peak).clamp(min=-20) * seen / 5,
        seen.expand_as(level) - 0.5,
        (peak + 7) / 7,
    )
    return torch.cat(parts, dim=-1), ratio


def group_visible(visible_bins: Tensor) -> Tensor:
    """Which groups lie below a cutoff whole. Shape: bool (..., BINS) -> float (..., GROUPS)."""
    return (visible_bins.float() @ _grouping().to(visible_bins.device) > 0.999).float()


class Restore(nn.Module):
    """Features of frames -> what a complex gain and filter are made of (see `apply`); causal.

    Args:
        body: of any family, see `models.families`.
        rate: canonical rate in Hz.
    """

    def __init__(self, body: Body, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.stem = nn.Linear(FEATURES, body.width)
        self.body = body
        self.middle = nn.Linear(body.width, body.width)
        self.head = nn.Linear(body.width, OUTPUTS)
        # Untrained it lets most through.
        # On the meta device, which has no values, it would import torch's compiler.
        if not self.head.weight.is_meta:
            nn.init.uniform_(self.head.weight, -0.02, 0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Shape: (B, N, FEATURES) -> (B, N, OUTPUTS); frames given in several calls come out as if given in one."""
        hidden, state = self.body(self.stem(features), state)
        values: Tensor = self.head(hidden + nn.functional.gelu(self.middle(hidden)))
        return values, state


def apply(values: Tensor, ratio: Tensor, spectrum: Tensor, before: Tensor) -> Tensor:
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
    slope, offset, turn, taps = torch.split(values, [GROUPS, GROUPS, SINGLE, 2 * TAPS * SINGLE], dim=-1)
    modulus = torch.sigmoid(torch.tanh(slope) * ratio + 2 * offset + _OPEN) @ _spreading().to(values.device)
    turn = torch.tanh(turn)
    scale = torch.rsqrt(1 + turn.square())
    low = modulus[..., :SINGLE] * scale
    joined = torch.cat((before, spectrum), dim=1)[..., :SINGLE]
    made = torch.complex(low, low * turn) * spectrum[..., :SINGLE]
    frames = spectrum.shape[1]
    real, imag = torch.unflatten(torch.tanh(taps), -1, (2, TAPS, SINGLE)).unbind(-3)
    factor = torch.complex(real, imag) / 2**0.5
    for tap in range(TAPS):
        # Tap 0 is the frame before, tap 1 the one before that.
        start = TAPS - 1 - tap
        made = made + factor[..., tap, :] * joined[:, start : start + frames]
    return torch.cat((made, modulus[..., SINGLE:] * spectrum[..., SINGLE:]), dim=-1)
