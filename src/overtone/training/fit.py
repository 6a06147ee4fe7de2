"""One training from settings and clips to a model folder: both networks one after the other, resumable."""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import Logger

from overtone.audio import replacing
from overtone.data import sources
from overtone.models.folder import ModelError
from overtone.models.model import Model
from overtone.settings import Params
from overtone.training import checkpoints as saved
from overtone.training import failure
from overtone.training.batches import TaskData
from overtone.training.failure import DivergedError
from overtone.training.launch import layout, share
from overtone.training.module import TaskModule
from overtone.training.recordings import recordings
from overtone.training.tasks import TASKS, Task

HISTORY = "history.csv"
_OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """What the training of a network came to: `best_epoch` counts from 0, `best` is the task's figure of validation."""

    task: str
    monitor: str
    mode: str
    best_epoch: int
    best: float
    steps: int
    stopped_early: bool
    parameters: int


class History(Callback):
    """Collects the metrics of each epoch, kept in checkpoints so that a resumed training has the whole curve."""

    def __init__(self, task: Task) -> None:
        self.rows: list[dict[str, Any]] = []
        self.task = task

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A row of all that was logged since the last one."""
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        place = {"task": self.task.name, "epoch": trainer.current_epoch, "step": trainer.global_step}
        self.rows.append({**place, **values})
        if trainer.is_global_zero:
            shown = ", ".join(
                f"{name} {values[name]:.4f}" for name in (f"{self.task.name}_train_loss", self.task.monitor)
            )
            print(f"step {trainer.global_step}/{self.task.settings.steps}: {shown}", flush=True)

    def state_dict(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The rows of a training that goes on."""
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
        """Seed what the network draws, such as dropout."""
        torch.manual_seed((self.seed << 24) + trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop."""
        if trainer.global_step >= self.steps:
            trainer.should_stop = True


def train(
    params: Params,
    family: str,
    source: Path | str,
    out: Path,
    checkpoints: Path,
    logger: Logger | Literal[False] = False,
    callbacks: tuple[Callback, ...] = (),
    start: Path | None = None,
    tasks: Sequence[str] = tuple(TASKS),
) -> list[Outcome]:
    """Train the networks of a family and write the model's folder: the weights with the best validation, and the curves.

    Each stops at its step count, or earlier when validation has not improved for `train.fit.patience` epochs. A training
    that was interrupted goes on from the last epoch in `checkpoints`, on however many processes. Where torchrun started
    several, all call this alike, and the first one writes.

    Args:
        source: folder written by the stage `corpus`, or a folder or URL of shards.
        out: model folder to write.
        checkpoints: folder of this training's checkpoints; the caller removes it when the results are safe.
        logger: receives metrics by epoch, their names beginning with the task's.
        start: model folder whose weights training begins with.
        tasks: which networks are trained; others stay as they begin.

    Raises:
        DivergedError: loss or gradient became NaN or infinite; the batch is kept in `checkpoints`.
        CheckpointError: the checkpoints to go on from are damaged.
        CorpusError: no training or validation clips.
        LaunchError: the processes do not fit the settings.
        ModelError: `start` is not a model of the same settings.
        ShardsError: a source that cannot be reached.
        ShardsError: shards that are damaged.
    """
    quiet()
    fit = params.train.fit
    processes = layout(fit)
    for name in tasks:
        share(name, getattr(params.train, name).batch, processes.world, fit.accumulate)
    if fit.threads:
        torch.set_num_threads(fit.threads)
    pl.seed_everything(params.seed, workers=True, verbose=False)
    model = Model.untrained(family, params.train.bodies(family), params.corpus.rate)
    if start is not None:
        _begin_with(model, start)
    heard = recordings(sources.recognise(source), params.corpus.rate, params.train.data.prepared)
    outcomes, rows = [], []
    for name in tasks:
        task = TASKS[name](params, heard["train"], heard["valid"])
        outcome, curve = _train(task, model, params, checkpoints / name, logger, callbacks)
        outcomes.append(outcome)
        rows += curve
    if layout(fit).world == 1 or torch.distributed.get_rank() == 0:
        facts = {"train": {"seed": params.seed, **params.train.model_dump(mode="json", exclude={"cnn", "rnn"})}}
        model.save(out, facts=facts)
        with replacing(out / HISTORY) as path:
            pd.DataFrame(rows).to_csv(path, index=False, float_format="%.6g")
    return outcomes


def _train(
    task: Task,
    model: Model,
    params: Params,
    checkpoints: Path,
    logger: Logger | Literal[False],
    callbacks: tuple[Callback, ...],
) -> tuple[Outcome, list[dict[str, Any]]]:
    """Train one of the model's networks in place; what it came to, and its curve."""
    done = checkpoints / _OUTCOME
    network = model.networks[task.name]
    module = TaskModule(task, network, params.train.fit)
    if done.is_file():
        found = json.loads(done.read_text())
        _take_best(module, checkpoints)
        return Outcome(**found["outcome"]), found["rows"]
    if params.train.fit.compile:
        # In place, so that the weights keep their names.
        network.compile()
    history = History(task)
    trainer = _trainer(task, params, checkpoints, logger, [history, *callbacks])
    data = TaskData(task, params.train.fit)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=saved.newest(checkpoints), weights_only=True)
    except DivergedError as error:
        raise failure.kept(error, module, model.family, params.seed, checkpoints) from None
    rows = [row for row in history.rows if math.isfinite(row.get(task.monitor, math.nan))]
    top = (min if task.mode == "min" else max)(rows, key=lambda row: row[task.monitor])
    outcome = Outcome(
        task.name,
        task.monitor,
        task.mode,
        int(top["epoch"]),
        top[task.monitor],
        trainer.global_step,
        trainer.global_step < task.settings.steps,
        sum(weight.numel() for weight in network.parameters()),
    )
    _take_best(module, checkpoints)
    if trainer.is_global_zero:
        with replacing(done) as path:
            path.write_text(json.dumps({"outcome": asdict(outcome), "rows": history.rows}))
    trainer.strategy.barrier()
    return outcome, history.rows


def _trainer(
    task: Task, params: Params, checkpoints: Path, logger: Logger | Literal[False], callbacks: list[Callback]
) -> pl.Trainer:
    fit = params.train.fit
    processes = layout(fit)
    # Two, since Lightning's `save_last` saves only when there is a new best.
    kept = [
        ModelCheckpoint(
            checkpoints,
            name,
            monitor=monitor,
            mode=task.mode,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
        for name, monitor in (("best", task.monitor), ("last", None))
    ]
    early = EarlyStopping(task.monitor, mode=task.mode, patience=fit.patience, check_on_train_epoch_end=True)
    bar = [TQDMProgressBar()] if sys.stderr.isatty() else []
    return pl.Trainer(
        accelerator=fit.accelerator,
        devices=processes.devices,
        num_nodes=processes.num_nodes,
        strategy="ddp" if processes.world > 1 else fit.strategy,
        precision=fit.precision,
        max_epochs=-(-task.settings.steps // fit.epoch_steps),
        min_epochs=0,
        limit_train_batches=fit.epoch_steps * fit.accumulate,
        accumulate_grad_batches=fit.accumulate,
        gradient_clip_val=task.settings.clip_norm,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        logger=logger,
        callbacks=[callbacks[0], Pace(task.settings.steps, params.seed), *kept, early, *bar, *callbacks[1:]],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        default_root_dir=checkpoints,
        plugins=[saved.CheckedIO()],
    )


def _begin_with(model: Model, folder: Path) -> None:
    begun = Model.load(folder)
    for name, network in model.networks.items():
        try:
            network.load_state_dict(begun.networks[name].state_dict())
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"train.fit.start: {folder}: not of the same settings: {reason}") from None


def _take_best(module: TaskModule, checkpoints: Path) -> None:
    """Put the weights of the best validation in the network."""
    module.load_state_dict(saved.best(checkpoints)["state_dict"])
    module.network.load_state_dict(module.best_network.state_dict())
    module.network.cpu().eval()


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
        ".*IterableDataset.*",
    ):
        warnings.filterwarnings("ignore", pattern)
