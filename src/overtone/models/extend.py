"""Extension: the levels of the bands above the cutoff, from those below it.

The network predicts an envelope only; `enhance.excitation` makes the sound that wears it. It never sees a band at or above
the cutoff. Beside the present levels it is given, for each visible band, a slow floor and a slow peak, by which it can
tell the recording chain (its noise, its brightness) from the sound, and, if there is one, a profile: what a full-band
reference of the same chain has in loud, middling and quiet moments.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from overtone.dsp.bands import BANDS
from overtone.models.body import Body
from overtone.models.envelope import FEATURES, PROFILE, Trackers, features


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
        given, mean = features(known, visible, Trackers())
        profile = known.new_zeros(batch, PROFILE) if profile is None else profile
        made, _ = self(given, profile, self.body.initial(batch))
        return torch.where(visible[:, None] > 0, known, made + mean)
