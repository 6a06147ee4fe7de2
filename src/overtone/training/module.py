"""What one optimiser step, one validation and the learning-rate schedule are."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import swa_utils
from torch.optim.swa_utils import AveragedModel

from overtone import losses
from overtone.data.crops import Crop
from overtone.models.spectral import HOP, SpectralUpsampler
from overtone.params import FitParams, LossParams, NetworkParams

# The window and hop of the project's log-spectral distance (`metrics`), for a validation figure in the same units.
VALID_WINDOW = 2048
# Samples by which the loss's frames move from step to step: visits every place within a hop, in no order.
SHIFT = 197


class UpsamplerModule(pl.LightningModule):
    """Trains a network; validates and keeps the exponential average of its weights.

    Metrics: `train_loss` and its terms by epoch; `valid_lsd` (log10 power, over the bins below each clip's bandwidth),
    `valid_lsd_extend` and `valid_lsd_restore` by mode; `learning_rate`.
    """

    def __init__(self, network: SpectralUpsampler, params: NetworkParams, loss: LossParams, fit: FitParams) -> None:
        super().__init__()
        self.network = network
        self.averaged = AveragedModel(network, multi_avg_fn=_averaging(fit.average)) if fit.average else None
        self.params = params
        self.loss = loss
        self.fit = fit

    @property
    def best_network(self) -> SpectralUpsampler:
        """The network to validate and keep."""
        network = self.averaged.module if self.averaged else self.network
        assert isinstance(network, SpectralUpsampler)
        return network

    def training_step(self, batch: Crop, index: int) -> Tensor:
        output = self.network(batch["input"], batch["cutoff_hz"], batch["restore"], batch["concealed"])
        start = self.global_step * SHIFT % HOP if self.loss.shift else 0
        loss, terms = losses.total(
            output,
            batch["target"],
            batch["input"],
            batch["restore"],
            batch["bandwidth_hz"],
            self.network.rate,
            self.loss,
            start,
        )
        values = {f"train_{name}": value.detach() for name, value in terms.items()}
        self.log_dict({"train_loss": loss.detach(), **values}, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Crop, batch_idx: int) -> None:
        """Follow the weights after each optimiser step."""
        if self.averaged:
            self.averaged.update_parameters(self.network)

    def validation_step(self, batch: Crop, index: int) -> None:
        output = self.best_network(batch["input"], batch["cutoff_hz"], batch["restore"], batch["concealed"])
        weight = losses.in_band(batch["bandwidth_hz"], VALID_WINDOW, self.network.rate)
        for restore in (False, True):
            chosen = batch["restore"] == restore
            count = int(chosen.sum())
            if count:
                ours, theirs = (losses.spectrum(s[chosen], VALID_WINDOW) for s in (output, batch["target"]))
                distance = losses.log_spectral(ours, theirs, weight[chosen])
                for name in ("valid_lsd", "valid_lsd_restore" if restore else "valid_lsd_extend"):
                    self.log(
                        name, distance, on_epoch=True, batch_size=count, sync_dist=True, prog_bar=name == "valid_lsd"
                    )

    def on_train_epoch_end(self) -> None:
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        """AdamW without decay on biases and norms; linear warm-up, then cosine decay to a hundredth."""
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.fit.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.params.learning_rate, betas=(0.8, 0.99))
        steps, warmup = self.params.steps, min(self.fit.warmup_steps, self.params.steps // 2)
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=max(warmup, 1))
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, max(steps - warmup, 1), eta_min=self.params.learning_rate / 100
        )
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[max(warmup, 1)])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _averaging(decay: float) -> Any:
    average: Any = swa_utils.get_ema_multi_avg_fn  # has no types
    return average(decay)
