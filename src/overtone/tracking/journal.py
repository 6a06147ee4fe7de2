"""What a training tells its run, written to a local file first, so that a server that is away for a while costs nothing.

A journal is `.overtone/runs/ID.jsonl` in the project's root. Its first line says which run it is, each further one is
something to be sent, in order. Lines that the store has taken are removed; sending one twice changes nothing. What a
training could not send any more is sent by `overtone sync`.
"""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from overtone.settings import project
from overtone.tracking import entries, naming, store, upload
from overtone.tracking.store import TrackingError
from overtone.tracking.upload import Line

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Tag of a run that goes by another id elsewhere: in a journal that began without a server, in another machine's store.
KNOWN_AS = "overtone.restored_from"
# Pauses between attempts to reach a store that does not answer, in seconds; the last one is repeated.
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# Why a run failed: a tag of the run.
REASON = "overtone.failure"
ENDED = ("FINISHED", "FAILED", "KILLED")
# How long the end of a training waits for a store that does not answer.
PATIENCE_SECONDS = 10.0
# What MLflow's client takes minutes for otherwise: seven attempts with growing pauses.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_ID = re.compile(r"[0-9a-f]{32}")

# Name, value, Unix time in milliseconds, step.
Point = tuple[str, float, int, int]


def folder() -> Path:
    """Where this project's journals are."""
    return (project.home() or Path.cwd()) / ".overtone" / "runs"


def offline() -> bool:
    """Whether `OVERTONE_OFFLINE` asks to record locally and leave the store alone until `overtone sync`."""
    return os.environ.get("OVERTONE_OFFLINE", "").strip().lower() in ("1", "true", "yes")


class Journal:
    """The journal of one run, held by one process at a time.

    Args:
        run_id: 32 hexadecimal digits.
        begun: of a journal that is not there yet: `store`, the public URI; `local`, whether the store has no such run so
            far, and then `name`, `experiment`, `parent`, `start` (ms) to make it by.
        seconds: to wait for another process that holds it.

    Raises:
        TrackingError: another process holds it, or its first line is damaged.
    """

    def __init__(self, run_id: str, begun: Mapping[str, Any] | None = None, seconds: float = 0.0) -> None:
        from filelock import FileLock, Timeout

        if not _ID.fullmatch(run_id):
            raise TrackingError(f"run {run_id!r}: expected 32 hexadecimal digits")
        self.run_id = run_id
        self.path = folder() / f"{run_id}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_suffix(".lock"), mode=0o666)
        try:
            self._lock.acquire(timeout=seconds)
        except Timeout:
            raise TrackingError(f"run {run_id}: another process is recording or syncing it") from None
        try:
            self.head = self._open(begun)
        except BaseException:
            self._lock.release()
            raise
        self._writing = threading.Lock()
        self._failures, self._next = 0, 0.0
        self._in_store = not self.head.get("local")
        self.trouble = ""

    def _open(self, begun: Mapping[str, Any] | None) -> Line:
        """The first line; what a kill left of a last line is cut off."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            if begun is None:
                raise TrackingError(f"{self.path}: no such journal, or an empty one")
            whole = json.dumps({"host": platform.node(), **begun}).encode() + b"\n"
            _write(self.path, whole, "wb")
        elif len(whole) < len(content):
            os.truncate(self.path, len(whole))
        head = self._parsed(whole.partition(b"\n")[0])
        self._begin = len(whole.partition(b"\n")[0]) + 1
        return head

    def _parsed(self, line: bytes) -> Line:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise TrackingError(f"{self.path}: a damaged line; move the file away to give up what it holds")
        return found

    def append(self, kind: str, **facts: Any) -> None:
        """Add a line; it is on the disk when this returns."""
        with self._writing:
            _write(self.path, json.dumps({"kind": kind, **facts}).encode() + b"\n", "ab")

    @property
    def pending(self) -> list[Line]:
        """The lines that the store has not taken yet."""
        with self._writing:
            content = self.path.read_bytes()[self._begin :]
        return [self._parsed(line) for line in content.splitlines()]

    def send(self) -> None:
        """Send all that is pending, and forget what was taken.

        Raises:
            MlflowException, OSError: the store does not answer, or refuses; all lines stay.
        """
        with self._writing:
            content = self.path.read_bytes()[self._begin :]
        lines = [self._parsed(line) for line in content.splitlines()]
        if not lines:
            return
        with _impatient():
            client = store.client()
            run_id = self.obtain(client)
            self._in_store = True
            upload.send(client, run_id, lines)
        self._forget(len(content))

    def try_to_send(self, patience: float = 0.0) -> bool:
        """Send what is pending unless the last attempt was a short while ago and failed.

        Args:
            patience: seconds to go on trying.

        Returns:
            Whether nothing is pending. `trouble` says what was in the way.
        """
        from mlflow.exceptions import MlflowException

        deadline = time.monotonic() + patience
        while True:
            if patience or time.monotonic() >= self._next:
                try:
                    self.send()
                except (MlflowException, TrackingError, OSError) as error:
                    pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
                    self._failures, self._next = self._failures + 1, time.monotonic() + pause
                    self.trouble = " ".join(str(error).split())
                else:
                    self._failures, self._next, self.trouble = 0, 0.0, ""
                    return True
            if time.monotonic() + 0.5 > deadline:
                return False
            time.sleep(0.5)

    def end_orphan(self) -> bool:
        """Mark the run as killed unless it has ended; whether that was necessary."""
        told = [line["status"] for line in self.pending if line["kind"] == "status"]
        if told and told[-1] in ENDED:
            return False
        last = self.path.stat().st_mtime_ns // 1_000_000
        self.append("tags", values={REASON: "its process was gone; killed, perhaps for want of memory"})
        self.append("status", status="KILLED", end=last)
        if not offline():
            self.try_to_send()
        return True

    def obtain(self, client: MlflowClient) -> str:
        """The run's id in the store, where it is made if it began without one.

        Raises:
            TrackingError: the store is another one than the run was begun in, or no longer has it.
        """
        if not self.head.get("local"):
            if self.head["store"] != store.public_uri():
                raise TrackingError(
                    f"run {self.run_id} belongs to {self.head['store']}; set MLFLOW_TRACKING_URI to it, not to "
                    f"{store.public_uri()}"
                )
            return self.run_id
        if known := find(client, self.run_id):
            return known
        parent = self.head.get("parent")
        tags = {KNOWN_AS: self.run_id, naming.KIND: "training"} | ({"mlflow.parentRunId": parent} if parent else {})
        experiment = store.experiment_id(client, parent, self.head.get("experiment"))
        run = client.create_run(experiment, start_time=self.head["start"], run_name=self.head["name"], tags=tags)
        return str(run.info.run_id)

    def _forget(self, sent: int) -> None:
        """Remove the first bytes after the head: those that were sent."""
        with self._writing:
            content = self.path.read_bytes()
            kept = content[self._begin + sent :]
            if not kept:
                os.truncate(self.path, self._begin)
                return
            with tempfile.NamedTemporaryFile(dir=self.path.parent, suffix=".tmp", delete=False) as file:
                file.write(content[: self._begin] + kept)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self.path)

    def close(self) -> None:
        """Let go of the journal; it is removed if the store has all of it."""
        try:
            if self._in_store and self.path.is_file() and self.path.stat().st_size == self._begin:
                self.path.unlink()
        finally:
            self._lock.release()

    def remove(self) -> None:
        """Remove the file, once the run is whole in the store."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write(path: Path, content: bytes, mode: str) -> None:
    try:
        with path.open(mode) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise TrackingError(f"{path}: the run's journal cannot be written: {error.strerror}") from None


@contextmanager
def _impatient() -> Iterator[None]:
    """MLflow's client gives up soon, unless the user has said how long it shall try."""
    changed = {name: value for name, value in _IMPATIENT.items() if name not in os.environ}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            os.environ.pop(name, None)


# --- in the store -------------------------------------------------------------------------------------------------------


def find(client: MlflowClient, run_id: str) -> str | None:
    """A run's id in this store: its own, or that of the run that was made for it here; None where there is neither."""
    if entries.exists(client, run_id):
        return run_id
    experiments = [str(one.experiment_id) for one in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{KNOWN_AS}` = '{entries.legal(run_id)}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


# --- afterwards ---------------------------------------------------------------------------------------------------------


def kept() -> list[str]:
    """Ids of the runs that have a journal here."""
    return sorted(path.stem for path in folder().glob("*.jsonl") if _ID.fullmatch(path.stem))


def sync(run_id: str) -> tuple[str, int]:
    """Bring a run's journal into the store, which must answer, and remove it; again: nothing more.

    Returns:
        The run's id in the store, and how many lines were sent.

    Raises:
        TrackingError: the store does not answer or is another one, or a process is still recording the run.
    """
    store.require()
    with Journal(run_id) as journal:
        count = len(journal.pending)
        known = journal.obtain(store.client())
        journal.send()
        journal.remove()
        return known, count


def end_orphans() -> list[str]:
    """End the runs whose process is gone without having ended them, such as one that the kernel has killed.

    A training holds its journal's lock for as long as it lives. Runs of other machines that share the folder are left alone.

    Returns:
        Their ids. Where the store is away they stay in their journals, ended.
    """
    found = []
    for run_id in kept():
        try:
            with Journal(run_id) as journal:
                if journal.head.get("host", platform.node()) == platform.node() and journal.end_orphan():
                    found.append(run_id)
        except TrackingError:
            # It is being recorded, or its file is damaged, which `overtone sync` tells.
            continue
    return found


def now() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
