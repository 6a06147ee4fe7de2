"""What a server is started with; `overtone serve` makes an option of every field."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import typer


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _option(default: Any, help: str, least: float | None = None, most: float | None = None, *names: str) -> Any:
    """A field of `Options`, what the command says of it, and its range."""
    return field(default=default, metadata={"option": typer.Option(*names, help=help, min=least, max=most)})


@dataclass(frozen=True)
class Options:
    """Settings of a server. `key` is what requests must show, None for nothing."""

    host: str = _option("127.0.0.1", "Address to listen on.")
    port: int = _option(8000, "Port to listen on; 0 takes a free one.", 0, 65_535)
    model: str = _option(
        "auto",
        "auto (follows the champion; without one, the released model), an alias, which is followed, a version number, "
        "released, released-rnn, or a model folder.",
    )
    device: str = _option("cpu", "cpu, cuda, cuda:1 or another device of torch.")
    processes: int = _option(1, "Processes behind the port; each loads the models, and they share out the limits.", 1)
    workers: int = _option(0, "Threads that compute in a process; 0: one a core, shared out among the processes.", 0)
    concurrency: int = _option(8, "Requests and jobs computed at a time.", 1)
    queue: int = _option(64, "Requests that may wait besides; 503 to any more.", 0)
    per_client: int = _option(32, "Requests of one address at a time; 429 to any more.", 1)
    max_megabytes: float = _option(100.0, "Of a request; 413 to larger ones.", 0.001)
    max_seconds: float = _option(1800.0, "Of sound in a request, summed over channels; 413 to longer ones.", 0.1)
    jobs: int = _option(64, "Jobs kept, waiting and computed ones among them; 503 to any more.", 1)
    jobs_per_client: int = _option(16, "Of them, jobs of one address; 429 to any more.", 1)
    job_megabytes: float = _option(1000.0, "Of a job's file; 413 to larger ones.", 0.001)
    job_seconds: float = _option(14_400.0, "Of sound in a job, summed over channels; 413 to longer ones.", 0.1)
    job_minutes: float = _option(60.0, "That a finished job is kept after its last use.", 0.001)
    job_gigabytes: float = _option(20.0, "On the disk for all jobs; one that needs more fails.", 0.001)
    kept_models: int = _option(2, "Models that requests name, kept in memory.", 1)
    poll_seconds: float = _option(10.0, "Between two looks for another champion.", 0.1)
    registry_seconds: float = _option(2.0, "That a request waits for the registry to say what a name means.", 0.01)
    read_seconds: float = _option(20.0, "Without a byte from a client, until it is given up.", 0.1)
    write_seconds: float = _option(20.0, "In which a client takes less than 64 KiB, until it is given up.", 0.1)
    upload_seconds: float = _option(300.0, "For a request's body, and a second more for every 16 kB.", 0.1)
    grace: float = _option(30.0, "Seconds for what runs, when the server is to stop.", 0)
    live_sessions: int = _option(8, "Live streams at a time.", 0)
    live_per_client: int = _option(4, "Live streams of one address at a time.", 1)
    live_ahead: float = _option(2.0, "Seconds that a live stream may be ahead of time.", 0)
    live_idle: float = _option(30.0, "Seconds without a frame, until a live stream is ended.", 0.1)
    shadow: str = _option("", "Challenger computed beside the model for a share of the files: alias, version, folder.")
    shadow_share: float = _option(0.05, "Share of the files that the challenger is given too.", 0, 1)
    state: Path | None = _option(None, "Folder of jobs and statistics. Default: of the project, or the user's cache.")  # noqa: RUF009 -- it makes a field
    allowed_hosts: list[str] | None = _option(  # noqa: RUF009 -- it makes a field
        None, "Name by which browsers reach the server, behind a proxy. Repeatable.", None, None, "--allowed-host"
    )
    access_log: bool = _option(True, "Log every request.")
    log_format: Literal["text", "json"] = _option("text", "Of the log: text, or a JSON object a line.")
    key: str | None = field(default=None, repr=False)

    @property
    def threads(self) -> int:
        """Threads that compute in this process."""
        return self.workers or max(1, cores() // self.processes)

    def share(self) -> Options:
        """The limits of one of the processes."""
        names = ("concurrency", "queue", "per_client", "live_sessions", "live_per_client")
        return replace(self, **{name: -(-getattr(self, name) // self.processes) for name in names})
