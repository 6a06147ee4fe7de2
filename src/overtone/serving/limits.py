"""How much a server takes on at a time: in all, of one address, and who computes next."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from overtone.serving.errors import Refused
from overtone.serving.options import Options

_RETRY_SECONDS = 2


class Limits:
    """Requests and live streams that are open, and slots in which they compute.

    A slot is held for a piece of work, never while a client sends or takes: who is slow keeps nobody waiting.

    Attributes:
        computing: pieces that are computed.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._requests: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._free = options.concurrency
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.computing = 0

    @property
    def requests(self) -> int:
        """Requests that compute, wait, or send or take their audio."""
        return self._requests.total()

    @property
    def live(self) -> int:
        """Open live streams."""
        return self._streams.total()

    @contextmanager
    def request(self, client: str) -> Iterator[None]:
        """Be one of the requests of an address.

        Raises:
            Refused: the server is full (503), or this address has too many (429).
        """
        if self.requests >= self._options.concurrency + self._options.queue:
            sentence = f"{self.requests} requests are worked on or wait already; try again in a moment"
            raise Refused(503, sentence, _RETRY_SECONDS)
        with _counted(self._requests, client, self._options.per_client, "requests"):
            yield

    @contextmanager
    def stream(self, client: str) -> Iterator[None]:
        """Be one of the live streams of an address.

        Raises:
            Refused: there are as many as may be (503), or this address has too many (429).
        """
        if self.live >= self._options.live_sessions:
            raise Refused(503, f"{self.live} live streams are open already; try again later", _RETRY_SECONDS)
        with _counted(self._streams, client, self._options.live_per_client, "live streams"):
            yield

    @asynccontextmanager
    async def slot(self, client: str) -> AsyncIterator[None]:
        """Wait for a slot to compute a piece in; addresses that wait get the next free one in rotation."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(client)
        self.computing += 1
        try:
            yield
        finally:
            self.computing -= 1
            self._pass_on()

    async def _wait(self, client: str) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            client, waiting = self._waiting.popitem(last=False)
            first = waiting.popleft()
            if waiting:
                # Behind all other addresses.
                self._waiting[client] = waiting
            if not first.done():
                first.set_result(None)
                return
        self._free += 1


@contextmanager
def _counted(counter: Counter[str], client: str, most: int, what: str) -> Iterator[None]:
    if counter[client] >= most:
        raise Refused(429, f"too many {what} at a time from one address; expected at most {most}", _RETRY_SECONDS)
    counter[client] += 1
    try:
        yield
    finally:
        counter[client] -= 1
        if not counter[client]:
            del counter[client]
