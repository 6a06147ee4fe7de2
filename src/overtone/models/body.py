"""What stands between the front end's features and its heads: the part in which the families differ."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Body(nn.Module, ABC):
    """Frames in, frames out, with a state from block to block.

    Attributes:
        width: features of a frame.
        alignment: blocks of frames must start at, and be as long as, a multiple of this.
        context: frames on each side of a block that its output depends on besides the state, a multiple of `alignment`.
    """

    width: int
    alignment: int
    context: int

    @abstractmethod
    def initial(self, batch: int) -> list[Tensor]:
        """The state before the first frame, tensors (directions, batch, hidden); empty for a body without one."""

    @abstractmethod
    def forward(self, hidden: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Advance over frames.

        Args:
            state: from `initial`, or what the previous call returned.

        Shape:
            (B, N, width) -> (B, N, width).
        """
