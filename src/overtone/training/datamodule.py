"""Batches of the paired set for Lightning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from overtone.data import sources
from overtone.data.crops import Crop, CropSampler
from overtone.data.pairs import PairsError
from overtone.params import FitParams, Params
from overtone.training.launch import layout, share


class PairsModule(pl.LightningDataModule):
    """Training crops and validation excerpts of the paired set; on many ranks each example goes to one of them.

    Args:
        source: folder written by the stage `degrade`, or a folder or URL of shards.
    """

    def __init__(self, params: Params, source: Path | str) -> None:
        super().__init__()
        self.params = params
        self.source = source
        data, fit = params.train.data, params.train.fit
        self.workers = data.workers if data.workers != "auto" else _spare_cores(fit)

    def setup(self, stage: str) -> None:
        source = sources.recognise(self.source)
        self.train = source.training(self.params)
        self.valid = source.validation(self.params)
        if not len(self.valid):
            raise PairsError(f"{source.name}: no validation pairs; expected at least one clip in the split 'valid'")

    def train_dataloader(self) -> DataLoader[Crop]:
        assert self.trainer is not None
        fit, world = self.params.train.fit, self.trainer.world_size
        batch = self.params.train.data.batch
        self._sampler = sampler = CropSampler(fit.epoch_steps * batch, self.trainer.global_rank, world)
        # Lightning tells the sampler the epoch too late for the first one of a resumed training.
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        sampler.set_epoch(progress.processed)
        return DataLoader(
            self.train,
            batch_size=share(batch, world, fit.accumulate),
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            drop_last=True,
        )

    def numbers(self, index: int) -> list[int]:
        """Of the examples in this process's batch `index` of the present epoch: `self.train` makes each again."""
        assert self.trainer is not None
        size = share(self.params.train.data.batch, self.trainer.world_size, self.params.train.fit.accumulate)
        return list(self._sampler)[index * size : (index + 1) * size]

    def val_dataloader(self) -> DataLoader[Crop]:
        assert self.trainer is not None
        mine = range(self.trainer.global_rank, len(self.valid), self.trainer.world_size)
        return DataLoader(
            self.valid,
            batch_size=share(self.params.train.data.batch, self.trainer.world_size, 1),
            # A rank without pairs would not validate at all, and the others would wait for it.
            sampler=mine or range(1),
            num_workers=min(self.workers, 1),
            persistent_workers=self.workers > 0,
        )

    @property
    def counts(self) -> bool:
        """Whether what this rank hears in validation counts: there may be more ranks than pairs."""
        assert self.trainer is not None
        return self.trainer.global_rank < len(self.valid)


def _spare_cores(fit: FitParams) -> int:
    """What the compute threads of all this machine's processes leave over, for each process."""
    devices = layout(fit).devices
    return max(((os.cpu_count() or 1) - max(fit.threads, 1) * devices) // devices, 0)
