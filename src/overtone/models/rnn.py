"""Family `rnn`: GRU or LSTM layers over frames, each normalised before and residual."""

from __future__ import annotations

from torch import Tensor, nn

from overtone.models.body import Body
from overtone.settings import RnnParams


class RecurrentBody(Body):
    """See `Body`. State: one tensor (1, B, width) a layer, two for an LSTM's."""

    def __init__(self, params: RnnParams) -> None:
        super().__init__()
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[params.cell]
        self.width = params.width
        self.cells = nn.ModuleList(kind(params.width, params.width, batch_first=True) for _ in range(params.layers))
        self.norms = nn.ModuleList(nn.LayerNorm(params.width) for _ in range(params.layers))
        self.dropout = nn.Dropout(params.dropout)
        self._states = 2 if params.cell == "lstm" else 1

    def initial(self, batch: int) -> list[Tensor]:
        """Zeros."""
        weight = next(self.parameters())
        return [weight.new_zeros(1, batch, self.width) for _ in range(len(self.cells) * self._states)]

    def forward(self, hidden: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `Body`."""
        after: list[Tensor] = []
        for i, (cell, norm) in enumerate(zip(self.cells, self.norms, strict=True)):
            past = state[i * self._states : (i + 1) * self._states]
            change, last = cell(norm(hidden), past[0] if self._states == 1 else tuple(past))
            hidden = hidden + self.dropout(change)
            after += [last] if self._states == 1 else list(last)
        return hidden, after
