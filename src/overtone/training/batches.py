"""Batches of a task for Lightning: each process makes its own share, one batch ahead in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from overtone.settings import FitParams
from overtone.training.launch import share
from overtone.training.tasks import Task


class Drawn(IterableDataset[Any]):
    """The shares of an epoch's batches of one process; which batch is first follows from the training's step.

    Args:
        trainer: its step, and which of how many processes this is.
    """

    def __init__(self, task: Task, fit: FitParams, trainer: pl.Trainer) -> None:
        self.task, self.fit, self.trainer = task, fit, trainer

    def __iter__(self) -> Iterator[Any]:
        parts, world, rank = self.fit.accumulate, self.trainer.world_size, self.trainer.global_rank
        size = share(self.task.name, self.task.settings.batch, world, parts)
        first = self.trainer.global_step
        wanted = iter(
            (number, range((rank * parts + part) * size, (rank * parts + part + 1) * size))
            for number in range(first, first + self.fit.epoch_steps)
            for part in range(parts)
        )
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(1, initializer=lambda: torch.set_num_threads(threads)) as pool:
            ahead: deque[Future[Any]] = deque()
            for number, examples in wanted:
                ahead.append(pool.submit(self.task.draw, number, examples))
                if len(ahead) > 1:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


class Excerpts(Dataset[int]):
    """The numbers of the validation excerpts that a process judges."""

    def __init__(self, numbers: range) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> int:
        return self.numbers[index]


class TaskData(pl.LightningDataModule):
    """Training batches and validation excerpts of a task; on many processes each is made by one of them."""

    def __init__(self, task: Task, fit: FitParams) -> None:
        super().__init__()
        self.task, self.fit = task, fit

    def train_dataloader(self) -> DataLoader[Any]:
        """See `Drawn`."""
        assert self.trainer is not None
        return DataLoader(Drawn(self.task, self.fit, self.trainer), batch_size=None)

    def val_dataloader(self) -> DataLoader[int]:
        """See `Excerpts`; a process without any judges the first, which does not count."""
        assert self.trainer is not None
        mine = range(self.trainer.global_rank, self.task.excerpts(), self.trainer.world_size)
        return DataLoader(Excerpts(mine or range(1)), batch_size=None)
