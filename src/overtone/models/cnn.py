"""The convolutional body: 1-D ConvNeXt blocks over frames in a U with pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from overtone.models.body import Body
from overtone.params import CnnParams


class Block(nn.Module):
    """ConvNeXt block over frames (Liu et al. 2022, as in Vocos): depth-wise convolution, then a point-wise bottleneck.

    Shape:
        (B, N, width) -> (B, N, width).
    """

    def __init__(self, width: int, kernel: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, hidden: Tensor) -> Tensor:
        mixed = self.norm(self.mix(hidden.transpose(1, 2)).transpose(1, 2))
        change: Tensor = self.narrow(nn.functional.gelu(self.widen(mixed)))
        out: Tensor = hidden + self.scale * self.dropout(change)
        return out


class ConvBody(Body):
    """U of ConvNeXt blocks: each level but the first sees frames pooled by two, and returns to the level above."""

    def __init__(self, params: CnnParams) -> None:
        super().__init__()
        self.width = params.width

        def level(count: int) -> nn.Sequential:
            blocks = (Block(params.width, params.kernel, params.expansion, params.dropout) for _ in range(count))
            return nn.Sequential(*blocks)

        self.down = nn.ModuleList(level(count) for count in params.depths)
        self.up = nn.ModuleList(level(count) for count in params.depths[:-1])
        self.pool = {"average": nn.AvgPool1d, "max": nn.MaxPool1d}[params.pooling](2)
        self.alignment = 2 ** (len(params.depths) - 1)
        reach = sum(2**i * (count * (params.kernel // 2) + 1) for i, count in enumerate(params.depths))
        reach += sum(2**i * (count * (params.kernel // 2) + 1) for i, count in enumerate(params.depths[:-1]))
        self.context = -(-reach // self.alignment) * self.alignment

    def initial(self, batch: int) -> list[Tensor]:
        """No state."""
        return []

    def forward(self, hidden: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `Body`."""
        skips: list[Tensor] = []
        for depth, level in enumerate(self.down):
            if depth:
                skips.append(hidden)
                hidden = self.pool(hidden.transpose(1, 2)).transpose(1, 2)
            hidden = level(hidden)
        for level, skip in zip(reversed(self.up), reversed(skips), strict=True):
            hidden = level(skip + hidden.repeat_interleave(2, dim=1))
        return hidden, state
