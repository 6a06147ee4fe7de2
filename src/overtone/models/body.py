"""What the model families differ in: a causal network over frames that carries its past from block to block."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Body(nn.Module, ABC):
    """Frames in, frames out. An output frame depends on its own input frame and earlier ones only.

    Attributes:
        width: features of a frame.
    """

    width: int

    @abstractmethod
    def initial(self, batch: int) -> list[Tensor]:
        """The state before the first frame; every tensor has the batch as its first axis but one, see `forward`."""

    @abstractmethod
    def forward(self, hidden: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Advance over frames; frames given in several calls come out as if given in one.

        Args:
            state: from `initial`, or what the previous call returned.

        Shape:
            (B, N, width) -> (B, N, width).
        """
