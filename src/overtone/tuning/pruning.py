"""A trial's training, ended after a validation that Optuna's pruner finds hopeless."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import optuna
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class Pruning(Callback):
    """Reports each validation to Optuna, and ends a training that is to be pruned, as an early stopping does.

    Args:
        trial: that the training is of.
        steps: at which the training ends by itself; it is not pruned any more then.
        quality: the trial's value, of the metrics of a validation.
    """

    def __init__(self, trial: optuna.Trial, steps: int, quality: Callable[[Mapping[str, torch.Tensor]], float]) -> None:
        self.trial = trial
        self.steps = steps
        self.quality = quality
        self.pruned = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.trial.report(self.quality(trainer.callback_metrics), trainer.current_epoch)
        if trainer.global_step < self.steps and self.trial.should_prune():
            self.pruned = True
            trainer.should_stop = True
