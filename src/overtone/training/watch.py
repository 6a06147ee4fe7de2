"""When a training is past mending: what is not finite, and what has exploded, found before the weights follow it."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from overtone import losses
from overtone.data.crops import Crop
from overtone.losses import ADVICE, DivergedError

# An explosion is a loss above so many times the median of those before, for so many optimiser steps in a row. A batch of
# nearly silent targets is that far off now and then, but not one after the other.
FACTOR, STEPS = 10.0, 5
# The median is that of so many losses at most, and nothing is judged before there are so many.
WINDOW, LEAST = 100, 20
# Under a gradient scaler (16-mixed) a gradient that is not finite is skipped and the scale lowered; more than so many in a
# row are no search for a scale any more.
SKIPPED = 20


@dataclass(frozen=True)
class Part:
    """What one optimiser step computed at a time: a batch, or one of the accumulated parts of a process's share."""

    batch: Crop
    loss: Tensor
    terms: dict[str, Tensor]
    index: int


class Watch(Callback):
    """Follows the losses and gradients of a training, and ends it by `DivergedError`.

    Its memory of the losses is kept in checkpoints, so that an interruption hides nothing from it.
    """

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=WINDOW)
        # Of the present optimiser step, or of the last one.
        self.parts: list[Part] = []
        self.norm = math.nan
        self._high: list[float] = []
        self._skipped = 0
        self._judged = False

    def hear(self, part: Part) -> None:
        """Take a part of the present optimiser step."""
        if self._judged:
            self.parts, self._judged = [], False
        self.parts.append(part)

    def loss(self) -> Tensor:
        """Mean loss of the present optimiser step's parts. Shape: ()."""
        return torch.stack([part.loss for part in self.parts]).mean()

    def judge(self, loss: float, norm: float, scaled: bool) -> None:
        """Judge an optimiser step that is about to be taken.

        Args:
            loss: of the step, mean over all processes.
            norm: of its gradient, before it is clipped.
            scaled: whether a gradient scaler skips steps whose gradient is not finite.

        Raises:
            DivergedError: loss or gradient is not finite, or the loss has exploded.
        """
        self._judged, self.norm = True, norm
        for part in self.parts:
            losses.check(float(part.loss), {name: float(value) for name, value in part.terms.items()})
        if not math.isfinite(loss):
            raise DivergedError(f"loss is not finite in another process; {ADVICE}")
        self._skipped = 0 if math.isfinite(norm) else self._skipped + 1
        if self._skipped > (SKIPPED if scaled else 0):
            raise DivergedError(f"gradient is not finite though the loss is {loss:.4g}; {ADVICE}")
        usual = statistics.median(self.losses) if len(self.losses) >= LEAST else math.inf
        if loss <= FACTOR * usual:
            self.losses.append(loss)
            self._high = []
            return
        self._high.append(loss)
        if len(self._high) >= STEPS:
            raise DivergedError(
                f"loss has exploded: above {FACTOR:g} times its median {usual:.4g} for {STEPS} steps "
                f"({', '.join(format(value, '.4g') for value in self._high)}); {ADVICE}"
            )

    @property
    def recent(self) -> list[float]:
        """The losses before the present optimiser step, as far back as they are remembered."""
        return [*self.losses, *self._high]

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "high": list(self._high)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = deque(state_dict["losses"], maxlen=WINDOW)
        self._high = list(state_dict["high"])
