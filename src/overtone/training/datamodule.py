"""Batches of the paired set for Lightning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from overtone.data.crops import Centres, Crop, CropSampler, RandomCrops
from overtone.data.pairs import PairsError, read_pairs, training_noise
from overtone.params import Params

# Validation listens to this much of each pair.
VALID_SECONDS = 2.0


class PairsModule(pl.LightningDataModule):
    """Training crops and validation excerpts of a pairs folder; on many ranks each example goes to one of them.

    Args:
        pairs: folder written by the stage `degrade`.
    """

    def __init__(self, params: Params, pairs: Path) -> None:
        super().__init__()
        self.params = params
        self.pairs = pairs
        data, fit = params.train.data, params.train.fit
        self.workers = data.workers if data.workers != "auto" else max((os.cpu_count() or 1) - max(fit.threads, 1), 0)

    def setup(self, stage: str) -> None:
        data, rate = self.params.train.data, self.params.corpus.rate
        self.train = RandomCrops(
            read_pairs(self.pairs, "train"),
            self.pairs,
            round(data.crop_seconds * rate),
            self.params.seed,
            data.redraw,
            self.params.degrade,
            training_noise(self.pairs),
        )
        self.valid = Centres(read_pairs(self.pairs, "valid"), self.pairs, round(VALID_SECONDS * rate))
        if not self.valid.pairs:
            raise PairsError(f"{self.pairs}: no validation pairs; expected at least one clip in the split 'valid'")

    def train_dataloader(self) -> DataLoader[Crop]:
        assert self.trainer is not None
        batch, world = self.params.train.data.batch, self.trainer.world_size
        sampler = CropSampler(self.params.train.fit.epoch_steps * batch * world, self.trainer.global_rank, world)
        # Lightning tells the sampler the epoch too late for the first one of a resumed training.
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        sampler.set_epoch(progress.processed)
        return DataLoader(
            self.train,
            batch_size=batch,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            drop_last=True,
        )

    def val_dataloader(self) -> DataLoader[Crop]:
        assert self.trainer is not None
        return DataLoader(
            self.valid,
            batch_size=self.params.train.data.batch,
            sampler=range(self.trainer.global_rank, len(self.valid), self.trainer.world_size),
            num_workers=min(self.workers, 1),
            persistent_workers=self.workers > 0,
        )
