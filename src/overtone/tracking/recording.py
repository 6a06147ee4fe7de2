"""Lightning's metrics by epoch, written into a training's journal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger

from overtone.tracking import entries, journal
from overtone.tracking.journal import Journal


class JournalLogger(Logger):
    """Lightning's logger into a journal. Each call sends what is pending, or finds out soon that the store is away.

    Args:
        book: of the training's run.
    """

    def __init__(self, book: Journal) -> None:
        super().__init__()
        self._book = book

    @property
    def name(self) -> str:
        return "overtone"

    @property
    def version(self) -> str:
        return self._book.run_id

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The run has the settings already."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        stamp = journal.now()
        points = [(entries.legal(name), float(value), stamp, step or 0) for name, value in metrics.items()]
        self._book.append("points", points=[point for point in points if math.isfinite(point[1])])
        was_away = bool(self._book.trouble)
        sent = self._book.try_to_send()
        if not sent and not was_away:
            print(
                f"the run's store is away, training goes on; kept in {self._book.path}: {self._book.trouble}",
                flush=True,
            )
        if sent and was_away:
            print("the run's store is back, and nothing is missing in it", flush=True)
