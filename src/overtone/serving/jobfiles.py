"""Jobs as folders: what was sent, what came of it, and a record that every process of the server can read.

ID/job.json          the record
ID/file              as it came; reference and profile beside it
ID/received.wav      what a condition left of it
ID/enhanced.wav      the enhanced samples, 32-bit float
ID/result.FORMAT     them in a format that was asked for
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import BaseModel, Field

from overtone.serving import conditions
from overtone.serving.enhancement import Order
from overtone.serving.errors import Refused
from overtone.serving.options import Options
from overtone.serving.uploads import FIELD, FIELDS, Upload

RECORD, RECEIVED, ENHANCED = "job.json", "received.wav", "enhanced.wav"
_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_RETRY_SECONDS = 30


class Job(BaseModel):
    """A file to be enhanced, as its client sees it.

    Attributes:
        state: `queued`, `running`, then `done` or `failed`, and `detail` says why.
        progress: share of the work that is done, 0 to 1.
        seconds: of the file, once it is open.
        model, version: what computes it.
        mode, cutoff_hz, done: what is done to the file; `done` is a sentence.
        format: of the result, unless another is asked for.
    """

    id: str
    state: Literal["queued", "running", "done", "failed"] = "queued"
    progress: float = 0.0
    detail: str | None = None
    seconds: float | None = None
    model: str | None = None
    version: str | None = None
    mode: str | None = None
    cutoff_hz: float | None = None
    done: str | None = None
    format: str | None = None


class JobOrder(Order):
    """What is to be made of a job's file, what it is made worse by first, and where it comes from."""

    condition: Annotated[str, Field(description="A name of /v1/conditions: what the file is made worse by first.")] = (
        conditions.NONE
    )
    source: Annotated[str | None, Field(description="Another job, whose file is taken in place of a body.")] = None


class Record(Job):
    """All that is known of a job.

    Attributes:
        source: header of the file.
        report: what was found in it.
        attempts: how often its computing was begun.
    """

    client: str
    order: JobOrder
    source: dict[str, Any] = {}
    report: dict[str, Any] = {}
    attempts: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed")


class JobFiles:
    """The folders of all jobs. All methods work on the disk: for threads.

    Args:
        folder: made if need be.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self._folder, self._options = folder, options
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def create(self, client: str, given: Upload | None, order: JobOrder) -> Record:
        """A new job with its input: what was sent, or that of the order's other job.

        Raises:
            Refused: there are too many jobs (503, 429), or there is no such other job (404).
        """
        self._require_room(client)
        job = Record(id=secrets.token_urlsafe(16), client=client, order=order)
        links = {} if order.source is None else self.inputs(self.read(order.source))
        self.path(job, "").mkdir(mode=0o700)
        for field, path in links.items():
            os.link(path, self.path(job, field))
        for field in FIELDS:
            sent: BinaryIO | None = getattr(given, field, None)
            if sent is not None:
                sent.seek(0)
                with self.path(job, field).open("wb") as target:
                    shutil.copyfileobj(sent, target, 1_000_000)
        self.save(job)
        return job

    def read(self, id: str) -> Record:
        """A job's record; it is kept for as long again.

        Raises:
            Refused: there is none (404).
        """
        with suppress(OSError, ValueError):
            if _ID.fullmatch(id):
                os.utime(self._folder / id)
                return self._load(self._folder / id)
        raise Refused(404, f"there is no job {id[:64]!r}; it was deleted, or not used for a while")

    def save(self, job: Record) -> None:
        """Write a job's record, unless it was deleted."""
        temporary = self.path(job, f".{RECORD}")
        with suppress(FileNotFoundError):
            temporary.write_text(job.model_dump_json())
            temporary.replace(self.path(job, RECORD))

    def path(self, job: Job, name: str) -> Path:
        """One of a job's files."""
        return self._folder / job.id / name

    def original(self, job: Job) -> Path:
        """What is enhanced: the file that was sent, or what the condition left of it."""
        received = self.path(job, RECEIVED)
        return received if received.exists() else self.path(job, FIELD)

    def inputs(self, job: Job) -> dict[str, Path]:
        """The files that were sent, by the fields of `Upload`."""
        return {field: path for field in FIELDS if (path := self.path(job, field)).exists()}

    def delete(self, job: Job) -> None:
        """Remove a job; what computes it stops after its piece."""
        shutil.rmtree(self.path(job, ""), ignore_errors=True)

    def is_deleted(self, job: Job) -> bool:
        return not self.path(job, RECORD).exists()

    def require_space(self, size: int) -> None:
        """Refuse what would take more than the jobs may in all.

        Raises:
            Refused: as many bytes more are too many (413).
        """
        used = sum(path.stat().st_size for path in self._folder.glob("*/*"))
        if used + size > self._options.job_gigabytes * 1e9:
            raise Refused(413, f"the result takes {size / 1e9:.1f} GB, more than is left for jobs on the server's disk")

    def unfinished(self) -> list[str]:
        """Ids of the jobs that have not ended."""
        return [job.id for job in self._all() if not job.ended]

    @contextmanager
    def held(self, id: str) -> Iterator[Record]:
        """A job's record, for the one process that computes it; the system frees it if the process ends.

        Raises:
            OSError: another process has it, or it was deleted.
        """
        folder = os.open(self._folder / id, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield self._load(self._folder / id)
        finally:
            os.close(folder)

    def _require_room(self, client: str) -> None:
        oldest = time.time() - 60 * self._options.job_minutes
        kept: Counter[str] = Counter()
        for job in self._all():
            with suppress(OSError):
                if job.ended and self.path(job, "").stat().st_mtime < oldest:
                    self.delete(job)
                    continue
            kept[job.client] += 1
        if kept.total() >= self._options.jobs:
            raise Refused(503, f"{kept.total()} jobs are kept already; try again later", _RETRY_SECONDS)
        if kept[client] >= self._options.jobs_per_client:
            most = self._options.jobs_per_client
            raise Refused(429, f"too many jobs of one address; expected at most {most}: delete one", _RETRY_SECONDS)

    def _all(self) -> Iterator[Record]:
        for folder in self._folder.iterdir():
            with suppress(OSError, ValueError):
                yield self._load(folder)

    def _load(self, folder: Path) -> Record:
        return Record.model_validate_json((folder / RECORD).read_text())
