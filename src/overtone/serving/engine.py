"""What computes for the routes of one server: models, limits, threads, counters."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, TypeVar, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from overtone.serving.enhancement import Enhancement
from overtone.serving.limits import Limits
from overtone.serving.metrics import Metrics
from overtone.serving.models import ModelCache
from overtone.serving.options import Options
from overtone.serving.shadow import Shadow
from overtone.serving.statistics import Statistics

T = TypeVar("T")


class Engine:
    """A server's models, limits, compute threads and counters.

    Files have a pool of threads; live sound, which does not wait behind files, has one thread; what may take long and
    cannot be divided has another. Live sound comes in pieces so small that two threads spend as much time on the
    interpreter's lock as on the sound.
    """

    def __init__(self, options: Options) -> None:
        self.options, self.limits = options, Limits(options)
        self._left = ExitStack()
        # Of jobs and statistics.
        self.folder = options.state or Path(self._left.enter_context(TemporaryDirectory(prefix="overtone-")))
        self.metrics, self.statistics = Metrics(self.limits), Statistics(self.folder)
        self.models = ModelCache(options, self.metrics.serves)
        self._files = ThreadPoolExecutor(options.threads, thread_name_prefix="worker")
        self._live = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._background = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._shadow = Shadow(options.shadow, options.shadow_share, self.models, self.statistics, self.in_background)

    async def compute(self, call: Callable[[], T], client: str) -> T:
        """What a call gives, made when it is its client's turn."""
        async with self.limits.slot(client):
            return await _called(self._files, call)

    async def steps(self, made: Iterator[T], client: str) -> AsyncGenerator[T, None]:
        """What an iterator makes, each item as `compute` does it: between two, others compute."""
        while (item := await self.compute(lambda: next(made, None), client)) is not None:
            yield item

    async def compute_live(self, call: Callable[[], T]) -> T:
        """What a call for live sound gives; calls are made in the order in which they came."""
        return await _called(self._live, call)

    async def in_background(self, call: Callable[[], T]) -> T:
        """What a call gives that takes long, and that nobody waits for."""
        return await _called(self._background, call)

    async def count(self, route: str, work: Enhancement) -> None:
        """Count a file that was enhanced, and give an excerpt of it to the challenger too."""
        self.metrics.enhanced(route, work.treatment.mode, work.info.seconds, work.computing)
        await asyncio.to_thread(self.statistics.count, work.facts, work.loaded.trained_hz)
        await self._shadow.take(work)

    async def close(self) -> None:
        """Compute no more."""
        await self._shadow.close()
        for pool in (self._files, self._live, self._background):
            pool.shutdown(wait=False, cancel_futures=True)
        self._left.close()


async def _called(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    """A call in a thread, which is waited for even when the request ends: it may use the request's files."""
    # With the request's id for the log.
    running = asyncio.get_running_loop().run_in_executor(pool, contextvars.copy_context().run, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def engine_of(connection: HTTPConnection) -> Engine:
    """The engine of the server that a request or WebSocket was sent to."""
    return cast("Engine", connection.app.state.engine)


def client_of(connection: HTTPConnection) -> str:
    """The address that a request or WebSocket came from."""
    return connection.client.host if connection.client else ""


# What routes ask FastAPI for.
ServersEngine = Annotated[Engine, Depends(engine_of)]
Client = Annotated[str, Depends(client_of)]
