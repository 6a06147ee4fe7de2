"""How much a server takes on at a time: requests worked on, requests waiting, requests of one client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from overtone.serving.refusal import Refused

_RETRY_SECONDS = 2


class Room:
    """Places for requests.

    Args:
        places: requests worked on at a time.
        queue: requests that wait, or still send their audio, besides.
        per_client: requests and live sessions of one client.
        sessions: live sessions at a time.
    """

    def __init__(self, places: int, queue: int, per_client: int, sessions: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._most = places + queue
        self._per_client = per_client
        self._clients: Counter[str] = Counter()
        self._sessions = sessions
        self.inside = 0
        self.working = 0
        self.live = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a place or send their audio."""
        return self.inside - self.working

    @contextmanager
    def entered(self, client: str) -> Iterator[None]:
        """Be one of those that wait or are worked on.

        Raises:
            Refused: the server is full (503), or this client has too many (429).
        """
        if self.inside >= self._most:
            raise Refused(
                503, f"{self.inside} requests are worked on or wait already; try again in a moment", _RETRY_SECONDS
            )
        with self._counted(client):
            self.inside += 1
            try:
                yield
            finally:
                self.inside -= 1

    @contextmanager
    def listening(self, client: str) -> Iterator[None]:
        """Be one of the live sessions.

        Raises:
            Refused: there are as many as may be (503), or this client has too many (429).
        """
        if self.live >= self._sessions:
            raise Refused(503, f"{self.live} live sessions are open already; try again later", _RETRY_SECONDS)
        with self._counted(client):
            self.live += 1
            try:
                yield
            finally:
                self.live -= 1

    @contextmanager
    def _counted(self, client: str) -> Iterator[None]:
        if self._clients[client] >= self._per_client:
            raise Refused(
                429, f"too many requests at a time from one client; expected at most {self._per_client}", _RETRY_SECONDS
            )
        self._clients[client] += 1
        try:
            yield
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    @asynccontextmanager
    async def worked_on(self) -> AsyncIterator[None]:
        """Wait for a place and hold it."""
        async with self._places:
            self.working += 1
            try:
                yield
            finally:
                self.working -= 1
