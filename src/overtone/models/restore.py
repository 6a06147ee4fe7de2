"""Restoration: noise taken out of the band below the cutoff; see `models.gains` for what its output is used for."""

from __future__ import annotations

from torch import Tensor, nn

from overtone.models.body import Body
from overtone.models.gains import FEATURES, OUTPUTS


class Restore(nn.Module):
    """Features of frames -> what a complex gain and filter are made of (see `gains.apply`); causal.

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
        # Untrained it is nearly the Wiener filter.
        # On the meta device, which has no values, it would import torch's compiler.
        if not self.head.weight.is_meta:
            nn.init.uniform_(self.head.weight, -0.02, 0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Shape: (B, N, FEATURES) -> (B, N, OUTPUTS); frames given in several calls come out as if given in one."""
        hidden, state = self.body(self.stem(features), state)
        values: Tensor = self.head(hidden + nn.functional.gelu(self.middle(hidden)))
        return values, state
