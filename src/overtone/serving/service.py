"""What the routes of one server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from starlette.requests import HTTPConnection

from overtone.serving.options import Options
from overtone.serving.room import Room
from overtone.serving.shelf import Shelf

if TYPE_CHECKING:
    from overtone.serving.meters import Meters

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """A server's models, places and compute threads."""

    options: Options
    shelf: Shelf
    room: Room
    meters: Meters
    workers: ThreadPoolExecutor
    listeners: ThreadPoolExecutor

    async def compute(self, call: Callable[[], T]) -> T:
        """What a call gives, made in a worker's thread; calls take turns in the order in which they came."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, call)

    async def listen(self, call: Callable[[], T]) -> T:
        """As `compute`, for live sound, which does not wait behind files."""
        return await asyncio.get_running_loop().run_in_executor(self.listeners, call)

    def close(self) -> None:
        """Compute no more."""
        self.shelf.close()
        for pool in (self.workers, self.listeners):
            pool.shutdown(wait=False, cancel_futures=True)


def of(connection: HTTPConnection) -> Service:
    """The service that a request or WebSocket was sent to; FastAPI's dependency of the routes."""
    return cast("Service", connection.app.state.service)


def client_of(connection: HTTPConnection) -> str:
    """The address that a request came from."""
    return connection.client.host if connection.client else ""
