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

    Attributes:
        inside: requests that compute, wait or send their audio.
        computing: requests and jobs that hold a slot.
        live: open live streams.
    """

    def __init__(self, options: Options) -> None:
        self._most = options.concurrency + options.queue
        self._per_client, self._live_per_client = options.per_client, options.live_per_client
        self._sessions = options.live_sessions
        self._requests: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._free = options.concurrency
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.computing = 0

    @property
    def inside(self) -> int:
        return self._requests.total()

    @property
    def live(self) -> int:
        return self._streams.total()

    @contextmanager
    def request(self, client: str) -> Iterator[None]:
        """Be one of the requests of an address.

        Raises:
            Refused: the server is full (503), or this address has too many (429).
        """
        if self.inside >= self._most:
            raise Refused(
                503, f"{self.inside} requests are worked on or wait already; try again in a moment", _RETRY_SECONDS
            )
        with _counted(self._requests, client, self._per_client, "requests"):
            yield

    @contextmanager
    def stream(self, client: str) -> Iterator[None]:
        """Be one of the live streams of an address.

        Raises:
            Refused: there are as many as may be (503), or this address has too many (429).
        """
        if self.live >= self._sessions:
            raise Refused(503, f"{self.live} live streams are open already; try again later", _RETRY_SECONDS)
        with _counted(self._streams, client, self._live_per_client, "live streams"):
            yield

    @asynccontextmanager
    async def slot(self, client: str) -> AsyncIterator[Slot]:
        """Wait for a slot to compute in, and hold it; addresses that wait get the next free one in rotation."""
        slot = Slot(self, client)
        await slot.acquire()
        try:
            yield slot
        finally:
            slot.release()

    async def take(self, client: str) -> None:
        """Wait for a slot. `Slot` calls it."""
        if self._free and not self._waiting:
            self._free -= 1
        else:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(client, deque()).append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self._pass_on()
                raise
        self.computing += 1

    def give(self) -> None:
        """Give a slot back."""
        self.computing -= 1
        self._pass_on()

    def others_wait(self, client: str) -> bool:
        """Whether another address waits for a slot."""
        return any(name != client and not all(one.done() for one in waiting) for name, waiting in self._waiting.items())

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


class Slot:
    """A slot of a request, which may be given up and taken again."""

    def __init__(self, limits: Limits, client: str) -> None:
        self._limits, self._client, self._held = limits, client, False

    async def acquire(self) -> None:
        if not self._held:
            await self._limits.take(self._client)
            self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._limits.give()

    async def yield_to_others(self) -> None:
        """Between two pieces of work: let another address go first, if one waits."""
        if self._limits.others_wait(self._client):
            self.release()
            await self.acquire()


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
