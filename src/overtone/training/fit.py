"""One training from settings and pairs to a model folder, resumable from its last epoch."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import Logger

from overtone.audio import replacing
from overtone.losses import DivergedError
from overtone.models import build
from overtone.models.spectral import SpectralUpsampler
from overtone.params import Params
from overtone.training import checkpoints as saved
from overtone.training import failure
from overtone.training.datamodule import PairsModule
from overtone.training.launch import layout, share
from overtone.training.module import UpsamplerModule

HISTORY = "history.csv"


@dataclass(frozen=True)
class Outcome:
    """What a training came to: `best_epoch` counts from 0, `best` is its validation LSD (log10 power)."""

    best_epoch: int
    best: float
    steps: int
    stopped_early: bool
    parameters: int


class History(Callback):
    """Collects the metrics of each epoch, kept in checkpoints so that a resumed training has the whole curve."""

    def __init__(self, steps: int) -> None:
        self.rows: list[dict[str, float]] = []
        self.steps = steps

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        # The module logs its own after this.
        values["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **values})
        if trainer.is_global_zero:
            shown = ", ".join(f"{name} {values[name]:.4f}" for name in ("train_loss", "valid_lsd") if name in values)
            print(f"step {trainer.global_step}/{self.steps}: {shown}", flush=True)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class Pace(Callback):
    """Ends the training at a step count, and makes the random numbers of a step a matter of its number.

    Lightning's own `max_steps` leaves out the validation of an epoch that it cuts short, and takes a checkpoint from an
    epoch's end for one from its middle.
    """

    def __init__(self, steps: int, seed: int) -> None:
        self.steps = steps
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed((self.seed << 24) + trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step >= self.steps:
            trainer.should_stop = True


def train(
    params: Params,
    kind: build.Kind,
    source: Path | str,
    out: Path,
    checkpoints: Path,
    logger: Logger | Literal[False] = False,
    callbacks: tuple[Callback, ...] = (),
) -> Outcome:
    """Train a network and write its folder: the weights with the best validation, their settings, and the curve.

    Stops at the family's step count, or earlier when validation has not improved for `train.fit.patience` epochs. A
    `last.ckpt` in `checkpoints` is continued, on however many processes. Where torchrun started several, all call this
    alike, and the first one writes.

    Args:
        source: folder written by the stage `degrade`, or a folder or URL of shards.
        out: model folder to write.
        checkpoints: folder of this training's checkpoints; the caller removes it when the results are safe.
        logger: receives metrics by epoch.

    Raises:
        DivergedError: loss or gradient became NaN or infinite, or the loss exploded; the batch is kept in `checkpoints`
            (see `training.failure`).
        CheckpointError: the checkpoints to go on from are damaged.
        LaunchError: the processes do not fit the settings.
        ObjectsError: a source that cannot be reached.
        PairsError: no training or validation pairs.
        ShardsError: shards that are damaged.
    """
    quiet()
    processes = layout(params.train.fit)
    share(params.train.data.batch, processes.world, params.train.fit.accumulate)
    settings = params.train.cnn if kind == "cnn" else params.train.rnn
    fit = params.train.fit
    pl.seed_everything(params.seed, workers=True, verbose=False)
    if fit.threads:
        torch.set_num_threads(fit.threads)
    network = build.network(settings, params.corpus.rate)
    if fit.start is not None:
        _begin_with(network, fit.start)
    module = UpsamplerModule(network, settings, params.train.loss, fit)
    if fit.compile:
        # In place, so that the weights keep their names.
        module.network.compile()
    history = History(settings.steps)
    # Two, since Lightning's `save_last` saves only when there is a new best.
    kept = [
        ModelCheckpoint(checkpoints, name, monitor=monitor, enable_version_counter=False, save_on_train_epoch_end=True)
        for name, monitor in (("best", "valid_lsd"), ("last", None))
    ]
    early = EarlyStopping("valid_lsd", patience=fit.patience, check_on_train_epoch_end=True)
    bar = [TQDMProgressBar()] if sys.stderr.isatty() else []
    trainer = pl.Trainer(
        accelerator=fit.accelerator,
        devices=processes.devices,
        num_nodes=processes.num_nodes,
        strategy="ddp" if processes.world > 1 else fit.strategy,
        precision=fit.precision,
        max_epochs=-(-settings.steps // fit.epoch_steps),
        min_epochs=0,
        limit_train_batches=fit.epoch_steps * fit.accumulate,
        accumulate_grad_batches=fit.accumulate,
        gradient_clip_val=fit.clip_norm,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        logger=logger,
        callbacks=[history, Pace(settings.steps, params.seed), module.watch, *kept, early, *bar, *callbacks],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        default_root_dir=checkpoints,
        plugins=[saved.CheckedIO()],
    )
    last = saved.newest(checkpoints)
    data = PairsModule(params, source)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    except DivergedError as error:
        raise _kept(error, trainer, module, data, checkpoints, kind) from None
    if trainer.is_global_zero:
        _keep_best(module, checkpoints, out, kind, params, history)
    rows = [row for row in history.rows if math.isfinite(row.get("valid_lsd", math.nan))]
    top = min(rows, key=lambda row: row["valid_lsd"])
    parameters = sum(p.numel() for p in module.network.parameters())
    return Outcome(
        int(top["epoch"]), top["valid_lsd"], trainer.global_step, trainer.global_step < settings.steps, parameters
    )


def _begin_with(network: SpectralUpsampler, folder: Path) -> None:
    try:
        network.load_state_dict(build.load(folder)[0].state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise build.ModelError(f"train.fit.start: {folder}: not a network of the same settings: {reason}") from None


def _kept(
    error: DivergedError,
    trainer: pl.Trainer,
    module: UpsamplerModule,
    data: PairsModule,
    checkpoints: Path,
    kind: build.Kind,
) -> DivergedError:
    """The error with the folder of the batch; without one where the disk refuses it."""
    place = failure.Place(trainer.global_step, trainer.current_epoch, trainer.global_rank, trainer.world_size)
    examples = [number for part in module.watch.parts for number in data.numbers(part.index)]
    try:
        folder = failure.keep(error, module, place, examples, checkpoints, checkpoints / saved.BEST, data.params, kind)
    except OSError as refused:
        return DivergedError(f"{error.reason}; the batch could not be kept: {refused}")
    return DivergedError(error.reason, folder)


def _keep_best(
    module: UpsamplerModule, checkpoints: Path, out: Path, kind: build.Kind, params: Params, history: History
) -> None:
    module.load_state_dict(saved.best(checkpoints)["state_dict"])
    settings = params.train.cnn if kind == "cnn" else params.train.rnn
    facts = {"train": {"seed": params.seed, **params.train.model_dump(mode="json", exclude={"cnn", "rnn"})}}
    build.save(module.best_network, out, kind, settings, facts=facts)
    with replacing(out / HISTORY) as path:
        pd.DataFrame(history.rows).to_csv(path, index=False, float_format="%.6g")


def quiet() -> None:
    """Silence the frameworks' advice on hardware, loaders and tuning; warnings of our own stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for pattern in (
        ".*does not have many workers.*",
        ".*isinstance.treespec.*",
        ".*lr_scheduler.step.*",
        ".*`LeafSpec`.*",
        ".*exists and is not empty.*",
        ".*recommended to use `self.log.*sync_dist=True.*",
    ):
        warnings.filterwarnings("ignore", pattern)
