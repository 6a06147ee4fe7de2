"""Extension: the levels of the bands above the cutoff, from those below it.

The network predicts an envelope only; `enhance.excitation` makes the sound that wears it. It never sees a band at or above
the cutoff. Beside the present levels it is given, for each visible band, a slow floor and a slow peak, by which it can
tell the recording chain (its noise, its brightness) from the sound, and, if there is one, a profile: what a full-band
reference of the same chain has in loud, middling and quiet moments.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from overtone.dsp.bands import BANDS, ROUNDING
from overtone.models.body import Body

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
    """Floor and peak of each band after the last frame, (B, BANDS)."""

    floor: Tensor
    peak: Tensor

    @classmethod
    def start(cls, batch: int, device: torch.device | str = "cpu") -> Trackers:
        """Before the first frame: the first level is floor and peak."""
        return cls(torch.full((batch, BANDS), 20.0, device=device), torch.full((batch, BANDS), -20.0, device=device))

    def push(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Floor and peak in each of the next frames. Shape: (B, N, BANDS) -> twice (B, N, BANDS)."""
        time = torch.arange(1, levels.shape[1] + 1, device=levels.device, dtype=levels.dtype)[:, None] * DRIFT
        floor = torch.minimum(torch.cummin(levels - time, dim=1).values, self.floor[:, None]) + time
        peak = torch.maximum(torch.cummax(levels + time, dim=1).values, self.peak[:, None]) - time
        self.floor, self.peak = floor[:, -1], peak[:, -1]
        return floor, peak


def mean_level(levels: Tensor, visible: Tensor) -> Tensor:
    """Mean over the visible bands. Shape: levels (B, N, BANDS), visible (B, BANDS) -> (B, N, 1)."""
    share = visible / visible.sum(-1, keepdim=True).clamp(min=1)
    return (levels * share[:, None]).sum(-1, keepdim=True)


def features(levels: Tensor, visible: Tensor, trackers: Trackers) -> tuple[Tensor, Tensor]:
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
    levels = levels.clamp(min=ROUNDING - 0.6)
    mean = mean_level(levels, visible)
    floor, peak = trackers.push(levels)
    parts = (
        (levels - mean) * seen / 2,
        (floor - _TYPICAL) * seen / 3,
        (peak - _TYPICAL) * seen / 3,
        (visible - 0.5)[:, None].expand_as(levels),
        (mean - _TYPICAL) / 3,
    )
    return torch.cat(parts, dim=-1), mean


def profile_of(levels: Tensor, visible: Tensor) -> Tensor:
    """The condition that a reference makes: mean levels of its loud, middling and quiet frames, and a one.

    Levels are relative to the mean of the visible bands in the loud frames, so that a reference may be louder or softer
    than what it is a reference for.

    Args:
        levels: log10 power of all bands of a full-band reference, at least `CLASSES` frames.
        visible: float, 1 for the bands below the cutoff of what is to be extended.

    Shape:
        levels (B, M, BANDS), visible (B, BANDS) -> (B, PROFILE).
    """
    levels = levels.clamp(min=ROUNDING - 0.6)
    order = mean_level(levels, visible)[..., 0].argsort(dim=1, descending=True)
    ordered = torch.gather(levels, 1, order[..., None].expand_as(levels))
    count = levels.shape[1]
    edges = [round(i * count / CLASSES) for i in range(CLASSES + 1)]
    curves = torch.stack([ordered[:, a:b].mean(1) for a, b in itertools.pairwise(edges)], dim=1)
    loud = mean_level(curves[:, :1], visible)
    return torch.cat(((curves - loud).flatten(1) / 2, torch.ones_like(levels[:, 0, :1])), dim=1)


class Extend(nn.Module):
    """Features of frames -> levels of all bands, relative to each frame's mean level; causal.

    Args:
        body: of any family, see `models.families`.
        rate: canonical rate in Hz.
    """

    def __init__(self, body: Body, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.stem = nn.Linear(FEATURES, body.width)
        self.profile = nn.Linear(PROFILE, body.width, bias=False)
        self.body = body
        self.middle = nn.Linear(body.width, body.width)
        self.head = nn.Linear(body.width, BANDS)

    def forward(self, features: Tensor, profile: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Predict; frames given in several calls come out as if given in one.

        Args:
            features: see `features`.
            profile: see `profile_of`; zeros for none.
            state: of the body.

        Shape:
            (B, N, FEATURES), (B, PROFILE) -> (B, N, BANDS).
        """
        hidden = self.stem(features) + self.profile(profile)[:, None]
        hidden, state = self.body(hidden, state)
        levels: Tensor = self.head(hidden + nn.functional.gelu(self.middle(hidden)))
        return levels, state

    def levels(self, known: Tensor, visible: Tensor, profile: Tensor | None = None) -> Tensor:
        """Levels of all bands of a whole signal: the known ones as they are, the others predicted.

        Shape:
            known (B, N, BANDS), visible float (B, BANDS), profile (B, PROFILE) -> (B, N, BANDS).
        """
        batch = known.shape[0]
        given, mean = features(known, visible, Trackers.start(batch, known.device))
        profile = known.new_zeros(batch, PROFILE) if profile is None else profile
        made, _ = self(given, profile, self.body.initial(batch))
        return torch.where(visible[:, None] > 0, known, made + mean)
