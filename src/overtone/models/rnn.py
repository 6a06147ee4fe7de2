"""The recurrent body: GRU or LSTM layers over frames, each followed by a bottleneck; uni-directional it carries its state."""

from __future__ import annotations

from torch import Tensor, nn

from overtone.models.body import Body
from overtone.params import RnnParams


class Layer(nn.Module):
    """A recurrent cell narrower than what flows past it, then a point-wise bottleneck, each normalised and residual.

    The cell's matrix is read again for every frame, the bottleneck's once for all frames: most of the capacity is cheaper
    in the latter.

    Shape:
        (B, N, width) -> (B, N, width).
    """

    def __init__(self, params: RnnParams) -> None:
        super().__init__()
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[params.cell]
        directions = 2 if params.bidirectional else 1
        self.before = nn.LayerNorm(params.width)
        self.cell = kind(
            params.width, params.hidden // directions, batch_first=True, bidirectional=params.bidirectional
        )
        self.out = nn.Linear(params.hidden, params.width)
        self.between = nn.LayerNorm(params.width)
        self.widen = nn.Linear(params.width, params.expansion * params.width)
        self.narrow = nn.Linear(params.expansion * params.width, params.width)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, hidden: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Advance over frames from a state of one tensor (GRU) or two (LSTM)."""
        heard, last = self.cell(self.before(hidden), state[0] if len(state) == 1 else tuple(state))
        hidden = hidden + self.dropout(self.out(heard))
        change = self.narrow(nn.functional.gelu(self.widen(self.between(hidden))))
        return hidden + self.dropout(change), [last] if len(state) == 1 else list(last)


class RecurrentBody(Body):
    """Recurrent layers over frames: uni-directional they need no context but the state.

    Bi-directional layers depend on all frames; they start anew in each block and are given a wide context, an approximation.
    """

    def __init__(self, params: RnnParams) -> None:
        super().__init__()
        self.width = params.width
        self.alignment = 1
        self.context = 192 if params.bidirectional else 0
        self._bidirectional = params.bidirectional
        self._states = 2 if params.cell == "lstm" else 1
        self._shape = (2, params.hidden // 2) if params.bidirectional else (1, params.hidden)
        self.layers = nn.ModuleList(Layer(params) for _ in range(params.layers))

    def initial(self, batch: int) -> list[Tensor]:
        """One tensor a layer, two for an LSTM's."""
        directions, size = self._shape
        weight = next(self.parameters())
        return [weight.new_zeros(directions, batch, size) for _ in range(len(self.layers) * self._states)]

    def forward(self, hidden: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `Body`."""
        after: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            hidden, last = layer(hidden, state[i * self._states : (i + 1) * self._states])
            after += last
        return hidden, state if self._bidirectional else after
