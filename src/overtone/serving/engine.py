"""What computes for the routes of one server: models, limits, threads, counters."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar, cast

from starlette.requests import HTTPConnection

from overtone.serving import shadow as shadowing
from overtone.serving.enhancement import Enhancement
from overtone.serving.errors import sentence_of
from overtone.serving.limits import Limits, Slot
from overtone.serving.metrics import Metrics
from overtone.serving.models import Loaded, ModelCache
from overtone.serving.options import Options
from overtone.serving.statistics import Statistics

T = TypeVar("T")
log = logging.getLogger("overtone.serving")


class Workers:
    """Threads that compute.

    Files have a pool; live sound, which does not wait behind files, has one thread; what nobody waits for has another. Live
    sound comes in pieces so small that two threads spend as much time on the interpreter's lock as on the sound.
    """

    def __init__(self, threads: int) -> None:
        self._files = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._live = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._background = ThreadPoolExecutor(1, thread_name_prefix="background")

    async def compute(self, call: Callable[[], T]) -> T:
        """What a call gives; calls are made in the order in which they came."""
        return await _called(self._files, call)

    async def compute_live(self, call: Callable[[], T]) -> T:
        """As `compute`, for live sound."""
        return await _called(self._live, call)

    async def in_background(self, call: Callable[[], T]) -> T:
        """As `compute`, for what may take long and cannot be divided."""
        return await _called(self._background, call)

    def close(self) -> None:
        """Compute no more."""
        for pool in (self._files, self._live, self._background):
            pool.shutdown(wait=False, cancel_futures=True)


async def _called(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    """A call in a thread, which is waited for even when the request ends: it may use the request's files."""
    # With the request's id for the log.
    running = asyncio.get_running_loop().run_in_executor(pool, contextvars.copy_context().run, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


@dataclass(frozen=True)
class Engine:
    """A server's models, limits, compute threads and counters."""

    options: Options
    models: ModelCache
    limits: Limits
    metrics: Metrics
    workers: Workers
    statistics: Statistics
    shadow: shadowing.Shadow
    comparisons: set[asyncio.Task[None]] = field(default_factory=set)

    async def steps(self, made: Iterator[T], slot: Slot) -> AsyncGenerator[T, None]:
        """What an iterator makes, each item computed in a worker's thread; between two, other addresses may compute."""
        while (item := await self.workers.compute(lambda: next(made, None))) is not None:
            yield item
            await slot.yield_to_others()

    async def excerpt_for_shadow(self, file: BinaryIO, work: Enhancement) -> shadowing.Excerpt | None:
        """The piece of a file that both models are to be given, if it is one of those to be compared."""
        if not self.shadow.wanted():
            return None
        return await self.workers.compute(lambda: shadowing.excerpt(file, work.info, work.treatment))

    async def count(self, route: str, work: Enhancement, compared: shadowing.Excerpt | None) -> None:
        """Count a file that was enhanced, and have the challenger's result compared."""
        self.metrics.enhanced(route, work.mode, work.info.seconds, work.computing)
        await asyncio.to_thread(self.statistics.count, work.facts, trained_hz(work.loaded))
        if compared is not None:
            task = asyncio.get_running_loop().create_task(self._compare(work.loaded, compared))
            self.comparisons.add(task)
            task.add_done_callback(self.comparisons.discard)

    async def close(self) -> None:
        """Compare no more."""
        for task in self.comparisons:
            task.cancel()
        await asyncio.gather(*self.comparisons, return_exceptions=True)

    async def _compare(self, champion: Loaded, given: shadowing.Excerpt) -> None:
        try:
            challenger = await self.models.get(self.shadow.challenger)
        except Exception as error:  # nobody waits for it
            log.error("the challenger %s cannot be used: %s", self.shadow.challenger, sentence_of(error))
            return
        await self.workers.in_background(lambda: self.shadow.compare(champion, challenger, given))


def trained_hz(loaded: Loaded) -> tuple[float, float] | None:
    """The lowest and the highest cutoff that a model was trained with; None where it does not say."""
    try:
        cutoffs = loaded.upsampler.config["train"]["extend"]["ranges"]["cutoffs"]
        return float(min(cutoffs)), float(max(cutoffs))
    except (KeyError, TypeError, ValueError):
        return None


def engine_of(connection: HTTPConnection) -> Engine:
    """The engine of the server that a request or WebSocket was sent to; FastAPI's dependency of the routes."""
    return cast("Engine", connection.app.state.engine)


def client_of(connection: HTTPConnection) -> str:
    """The address that a request came from."""
    return connection.client.host if connection.client else ""
