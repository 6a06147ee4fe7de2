"""What one optimiser step, one validation and the learning-rate schedule are."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import utils as gradients
from torch.optim import Optimizer, swa_utils
from torch.optim.swa_utils import AveragedModel

from overtone import losses
from overtone.data.crops import Crop
from overtone.losses import ADVICE, DivergedError
from overtone.models.spectral import HOP, SpectralUpsampler
from overtone.params import FitParams, LossParams, NetworkParams
from overtone.training.watch import Part, Watch

# The window and hop of the project's log-spectral distance (`metrics`), for a validation figure in the same units.
VALID_WINDOW = 2048
# Samples by which the loss's frames move from step to step: visits every place within a hop, in no order.
SHIFT = 197


class UpsamplerModule(pl.LightningModule):
    """Trains a network; validates and keeps the exponential average of its weights.

    Metrics: `train_loss` and its terms by epoch; `gradient_norm` before clipping, and `clipped`, the share of steps whose
    gradient was; `valid_lsd` (log10 power, over the bins below each clip's bandwidth), `valid_lsd_extend` and
    `valid_lsd_restore` by mode; `learning_rate`.
    """

    def __init__(self, network: SpectralUpsampler, params: NetworkParams, loss: LossParams, fit: FitParams) -> None:
        super().__init__()
        self.network = network
        self.averaged = AveragedModel(network, multi_avg_fn=_averaging(fit.average)) if fit.average else None
        if self.averaged:
            # Else every rank would wait for gradients of it.
            self.averaged.requires_grad_(False)
        self.params = params
        self.loss = loss
        self.fit = fit
        self.watch = Watch()
        # Optimiser steps that the average has followed.
        self._followed = 0

    @property
    def best_network(self) -> SpectralUpsampler:
        """The network to validate and keep."""
        network = self.averaged.module if self.averaged else self.network
        assert isinstance(network, SpectralUpsampler)
        return network

    def loss_of(self, batch: Crop, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch at an optimiser step, and its terms by name."""
        output = self.network(batch["input"], batch["cutoff_hz"], batch["restore"], batch["concealed"], batch["opened"])
        # Whatever precision the network computes in: a sum over a spectrum's bins in half precision is no sum.
        with torch.autocast(output.device.type, enabled=False):
            return losses.total(
                output,
                batch["target"],
                batch["input"],
                batch["restore"] & ~batch["opened"],
                batch["bandwidth_hz"],
                self.network.rate,
                self.loss,
                step * SHIFT % HOP if self.loss.shift else 0,
            )

    def follow(self) -> None:
        """Let the average follow the weights, after an optimiser step."""
        if self.averaged:
            self.averaged.update_parameters(self.network)

    def training_step(self, batch: Crop, index: int) -> Tensor:
        loss, terms = self.loss_of(batch, self.global_step)
        part = Part(batch, loss.detach(), {name: value.detach() for name, value in terms.items()}, index)
        self.watch.hear(part)
        values = {f"train_{name}": value for name, value in part.terms.items()}
        self.log_dict({"train_loss": part.loss, **values}, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient to the norm `gradient_clip_val`, unless it or the loss ends the training.

        All processes come to the same verdict: they share the gradient, and judge the mean of their losses.

        Raises:
            DivergedError: loss or gradient is not finite, or the loss has exploded.
        """
        limit = gradient_clip_val or math.inf
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        norm = gradients.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        loss = self.watch.loss()
        if self.trainer.world_size > 1:
            loss = self.trainer.strategy.reduce(loss, reduce_op="mean")
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self.watch.judge(float(loss), float(norm), scaled)
        gradients.clip_grads_with_norm_(weights, limit, norm)
        clipped = (norm > limit).to(norm.dtype)
        self.log_dict({"gradient_norm": norm, "clipped": clipped}, on_step=False, on_epoch=True)

    def on_train_batch_end(self, outputs: Any, batch: Crop, batch_idx: int) -> None:
        """An accumulated batch is one optimiser step in several of these."""
        if self.global_step > self._followed:
            self.follow()
            self._followed = self.global_step

    def on_train_start(self) -> None:
        self._followed = self.global_step

    def on_validation_epoch_start(self) -> None:
        # Sum and number, by mode.
        self._distances = torch.zeros(2, 2, device=self.device)

    def validation_step(self, batch: Crop, index: int) -> None:
        output = self.best_network(batch["input"], batch["cutoff_hz"], batch["restore"], batch["concealed"])
        weight = losses.in_band(batch["bandwidth_hz"], VALID_WINDOW, self.network.rate)
        pairs: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # of PairsModule, which Lightning does not know
        for mode in (0, 1):
            chosen = batch["restore"] == bool(mode)
            count = int(chosen.sum()) if pairs.counts else 0
            if count:
                with torch.autocast(output.device.type, enabled=False):
                    ours, theirs = (losses.spectrum(s[chosen], VALID_WINDOW) for s in (output, batch["target"]))
                    distance = losses.log_spectral(ours, theirs, weight[chosen])
                self._distances[mode] += torch.stack((distance * count, distance.new_tensor(count)))

    def on_validation_epoch_end(self) -> None:
        """Means over all pairs, however many of them, and of which mode, each rank has heard."""
        sums: Tensor = self.trainer.strategy.reduce(self._distances, reduce_op="sum")
        for name, (distance, count) in zip(("valid_lsd_extend", "valid_lsd_restore"), sums, strict=True):
            if count:
                self.log(name, distance / count)
        distance = sums[:, 0].sum() / sums[:, 1].sum()
        if not bool(distance.isfinite()):
            raise DivergedError(f"validation distance is not finite; {ADVICE}")
        self.log("valid_lsd", distance, prog_bar=True)

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
