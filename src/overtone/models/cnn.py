"""Family `cnn`: dilated convolutions over frames that look back only, and a pooled look at the recent past."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from overtone.models.body import Body
from overtone.settings import CnnParams


class Block(nn.Module):
    """A dilated convolution over the present and past frames, then a point-wise layer, normalised before and residual.

    Args:
        width: features of a frame.
        kernel: frames that the convolution sees.
        dilation: distance between them, in frames.
        dropout: share of the change that is dropped in training.
    """

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Shape: hidden (B, N, width), past (B, self.past, width) -> the same two."""
        joined = torch.cat((past, self.norm(hidden)), dim=1)
        mixed = self.mix(joined.transpose(1, 2)).transpose(1, 2)
        change: Tensor = self.out(nn.functional.gelu(mixed))
        return hidden + self.dropout(change), joined[:, joined.shape[1] - self.past :]


class Context(nn.Module):
    """Adds what the last `frames` frames have in common: their average or their maximum, feature by feature."""

    def __init__(self, width: int, frames: int, pooling: str) -> None:
        super().__init__()
        self.past = frames - 1
        self.pool = {"average": nn.AvgPool1d, "max": nn.MaxPool1d}[pooling](frames, stride=1)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Shape: hidden (B, N, width), past (B, self.past, width) -> the same two."""
        joined = torch.cat((past, self.norm(hidden)), dim=1)
        pooled = self.pool(joined.transpose(1, 2)).transpose(1, 2)
        return hidden + self.out(pooled), joined[:, joined.shape[1] - self.past :]


class ConvBody(Body):
    """See `Body`. State: the frames that each layer looks back to, (B, past, width)."""

    def __init__(self, params: CnnParams) -> None:
        super().__init__()
        self.width = params.width
        blocks: list[Block | Context] = [
            Block(params.width, params.kernel, 2**i, params.dropout) for i in range(params.blocks)
        ]
        blocks.insert(params.blocks // 2, Context(params.width, params.context, params.pooling))
        self.blocks = nn.ModuleList(blocks)
        self._pasts = [block.past for block in blocks]

    def initial(self, batch: int) -> list[Tensor]:
        """Zeros."""
        weight = next(self.parameters())
        return [weight.new_zeros(batch, past, self.width) for past in self._pasts]

    def forward(self, hidden: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `Body`."""
        after: list[Tensor] = []
        for block, past in zip(self.blocks, state, strict=True):
            hidden, past = block(hidden, past)
            after.append(past)
        return hidden, after
