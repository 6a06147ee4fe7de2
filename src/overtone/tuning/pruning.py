"""A training that is watched: each validation is judged, and a hopeless training ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

# (epoch, quality) -> whether to end the training
Judge = Callable[[int, float], bool]


class Pruning(Callback):
    """Ends a training after the validation that its judge finds hopeless, as an early stopping does.

    Of several processes only the first one asks, and all act on its answer in the same epoch. A training that has reached
    its last step is judged no more.

    Args:
        steps: the step at which the training ends by itself.
        judge: what decides; None in processes that do not decide, or where nothing is pruned.
        quality: what it judges, of the metrics of a validation.
    """

    def __init__(self, steps: int, judge: Judge | None, quality: Callable[[Mapping[str, torch.Tensor]], float]) -> None:
        self.steps = steps
        self.quality = quality
        self.judge = judge
        self.pruned = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        stop = False
        if trainer.is_global_zero and self.judge is not None:
            stop = self.judge(trainer.current_epoch, self.quality(trainer.callback_metrics))
        if trainer.strategy.broadcast(stop) and trainer.global_step < self.steps:
            self.pruned = True
            trainer.should_stop = True
