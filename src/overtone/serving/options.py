"""What a server is started with: its address, its limits, its key."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Options:
    """Settings of a server; the command `overtone serve` says what each does.

    Attributes:
        model: reference that is followed, or a model folder; `auto` is the champion, without one the released model.
        workers: threads that compute, each on one core.
        concurrency: requests worked on at a time; each holds a few blocks in memory.
        queue: requests that may wait or send their audio besides.
        per_client: requests and live sessions of one address at a time.
        max_megabytes: of a request's body.
        max_seconds: of sound, summed over channels.
        kept_models: models in memory besides the default one.
        poll_seconds: between two looks at the registry.
        read_seconds, write_seconds: without a byte, until a slow client is given up; the first also for all of a request's
            headers.
        upload_seconds: for a whole request's body.
        grace_seconds: for what runs when the server is told to stop.
        live_sessions: WebSockets at a time.
        live_backlog_seconds: of live sound that is received and not yet computed, at most.
        live_ahead_seconds: that a live client may be ahead of real time.
        live_idle_seconds: without a frame, until a live session is ended.
        key: that requests must show; None asks for none.
        hosts: names, besides the address itself, by which browsers may reach the server.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model: str = "auto"
    workers: int = field(default_factory=cores)
    concurrency: int = 8
    queue: int = 64
    per_client: int = 64
    max_megabytes: float = 100.0
    max_seconds: float = 1800.0
    kept_models: int = 2
    poll_seconds: float = 10.0
    read_seconds: float = 20.0
    write_seconds: float = 20.0
    upload_seconds: float = 300.0
    grace_seconds: float = 30.0
    live_sessions: int = 8
    live_backlog_seconds: float = 2.0
    live_ahead_seconds: float = 2.0
    live_idle_seconds: float = 30.0
    key: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()

    @property
    def max_bytes(self) -> int:
        """Of a request's body."""
        return int(self.max_megabytes * 1_000_000)
