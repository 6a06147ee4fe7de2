"""What one optimiser step, one validation and the learning-rate schedule are."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import utils as gradients
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from overtone.models.extend import Extend
from overtone.models.restore import Restore
from overtone.settings import FitParams
from overtone.training.failure import ADVICE, DivergedError
from overtone.training.tasks import Task

_TYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


class TaskModule(pl.LightningModule):
    """Trains a network; validates and keeps the exponential average of its weights.

    Metrics, their names beginning with the task's: `train_loss` and other figures of the loss by epoch; `gradient_norm`
    before clipping; those of validation (`Task.validate`); `learning_rate`.
    """

    def __init__(self, task: Task, network: Extend | Restore, fit: FitParams) -> None:
        super().__init__()
        self.task, self.network, self.fit = task, network, fit
        self.averaged = AveragedModel(network, multi_avg_fn=_averaging(fit.average)) if fit.average else None
        if self.averaged:
            # Else every process would wait for gradients of it.
            self.averaged.requires_grad_(False)
        # What the present optimiser step was computed from, and its losses.
        self.parts: list[tuple[Any, float]] = []
        self.norm = float("nan")
        # Optimiser steps that the average has followed.
        self._followed = 0

    @property
    def best_network(self) -> nn.Module:
        """The network to validate and keep."""
        return self.averaged.module if self.averaged else self.network

    def loss_of(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, the network in the asked precision and all else in single precision."""
        dtype = _TYPES.get(self.fit.precision)

        def run(*inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                return _started(self.network, inputs)

        with torch.autocast(self.device.type, enabled=False):
            return self.task.loss(run, batch)

    def training_step(self, batch: Any, index: int) -> Tensor:
        """One part of an optimiser step."""
        loss, values = self.loss_of(batch)
        self.parts.append((batch, float(loss.detach())))
        shown = {f"{self.task.name}_train_{name}": value.detach() for name, value in {"loss": loss, **values}.items()}
        self.log_dict(shown, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient, unless it ends the training: all processes share it, and come to the same verdict.

        Raises:
            DivergedError: the gradient is not finite; under a gradient scaler (16-mixed) the loss is not, since such steps
                are then skipped and the scale lowered.
        """
        weights = [weight for weight in self.network.parameters() if weight.grad is not None]
        norm = gradients.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        self.norm = float(norm)
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        finite = all(loss - loss == 0 for _, loss in self.parts)
        if not finite or not (scaled or bool(norm.isfinite())):
            what = "gradient" if finite else "loss"
            raise DivergedError(f"{self.task.name}: {what} is not finite at step {self.global_step}; {ADVICE}")
        gradients.clip_grads_with_norm_(weights, self.task.settings.clip_norm, norm)
        rate = optimizer.param_groups[0]["lr"]
        for name, value in (("gradient_norm", norm), ("learning_rate", norm.new_tensor(rate))):
            self.log(f"{self.task.name}_{name}", value, on_step=False, on_epoch=True, batch_size=1)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """An accumulated batch is one optimiser step in several of these."""
        if self.global_step > self._followed:
            self.parts.clear()
            if self.averaged:
                self.averaged.update_parameters(self.network)
            self._followed = self.global_step

    def on_train_start(self) -> None:
        """A resumed training goes on at its step."""
        self._followed = self.global_step

    def on_validation_epoch_start(self) -> None:
        """Begin sums anew."""
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def validation_step(self, index: int, batch_idx: int) -> None:
        """Judge an excerpt, in single precision."""
        network = self.best_network

        def run(*inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
            out, state = _started(network, [value.to(self.device) for value in inputs])
            return out.cpu(), state

        with torch.autocast(self.device.type, enabled=False):
            figures = self.task.validate(run, index)
        counts = self.trainer.global_rank < self.task.excerpts()
        self._count += int(counts)
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + value * counts

    def on_validation_epoch_end(self) -> None:
        """Means over all excerpts, however many of them each process has judged."""
        names = list(self._sums)
        mine = torch.tensor([*(float(self._sums[name]) for name in names), self._count], device=self.device)
        sums: Tensor = self.trainer.strategy.reduce(mine, reduce_op="sum")
        means = sums[:-1] / sums[-1]
        if not bool(means.isfinite().all()):
            raise DivergedError(f"{self.task.name}: validation is not finite; {ADVICE}")
        for name, mean in zip(names, means, strict=True):
            self.log(name, mean, prog_bar=name == self.task.monitor, batch_size=1)

    def configure_optimizers(self) -> Any:
        """AdamW without decay on biases and norms; linear warm-up, then cosine decay to a hundredth."""
        settings, fit = self.task.settings, self.fit
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": fit.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        warmup = max(1, min(fit.warmup_steps, settings.steps // 2))
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, max(settings.steps - warmup, 1), eta_min=settings.learning_rate / 100
        )
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warmup])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _started(network: Any, inputs: Any) -> tuple[Tensor, list[Tensor]]:
    """A network's output for frames that are a signal's first."""
    result: tuple[Tensor, list[Tensor]] = network(*inputs, network.body.initial(len(inputs[0])))
    return result


def _averaging(decay: float) -> Any:
    """An exponential average that follows quickly at first."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        slow = min(decay, float(count) / (float(count) + 10))
        torch._foreach_lerp_(averaged, current, 1 - slow)

    return update
