"""The recurrent body: GRU or LSTM layers over frames, with residuals; uni-directional it carries its state."""

from __future__ import annotations

from torch import Tensor, nn

from overtone.params import RnnParams

State = tuple[Tensor, ...]


class RecurrentBody(nn.Module):
    """Recurrent layers, each with normalised input and a residual around it.

    Attributes:
        alignment: 1, blocks of frames may start anywhere.
        context: frames on each side of a block that are needed besides the carried state: none when uni-directional; a
            bi-directional body depends on all frames and is given this many, an approximation.
    """

    def __init__(self, params: RnnParams) -> None:
        super().__init__()
        self.width = params.hidden
        self.bidirectional = params.bidirectional
        self.alignment = 1
        self.context = 192 if params.bidirectional else 0
        cell = {"gru": nn.GRU, "lstm": nn.LSTM}[params.cell]
        directions = 2 if params.bidirectional else 1
        if params.hidden % directions:
            raise ValueError(f"train.rnn.hidden: expected an even number when bidirectional, got {params.hidden}")
        self.norms = nn.ModuleList(nn.LayerNorm(params.hidden) for _ in range(params.layers))
        self.cells = nn.ModuleList(
            cell(params.hidden, params.hidden // directions, batch_first=True, bidirectional=params.bidirectional)
            for _ in range(params.layers)
        )
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, hidden: Tensor, state: list[Tensor | State] | None = None) -> tuple[Tensor, list[Tensor | State]]:
        """Advance over frames.

        Args:
            state: what the previous call returned, None at the start of a signal.

        Shape:
            (B, N, width) -> (B, N, width).
        """
        after: list[Tensor | State] = []
        for i, (norm, cell) in enumerate(zip(self.norms, self.cells, strict=True)):
            change, last = cell(norm(hidden), None if state is None or self.bidirectional else state[i])
            hidden = hidden + self.dropout(change)
            after.append(last)
        return hidden, after
