"""What a training records while it runs, written to a local file first, so that a server may be away for a while.

A journal is `.overtone/runs/ID.jsonl` in the project's root. Its first line names the store of the run; each further one is
points of curves, tags or a status, to be sent in order. Lines that the store has taken are removed; sending one twice changes
nothing. What a training could not send any more is sent by `overtone sync`.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from overtone.settings import project
from overtone.tracking import entries, server, store
from overtone.tracking.store import TrackingError

# Why a run failed: a tag of the run.
REASON = "overtone.failure"
# How long the end of a training waits for a store that does not answer.
PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.5
_ID = re.compile(r"[0-9a-f]{32}")

Line = dict[str, Any]


def folder() -> Path:
    """Where this project's journals are."""
    return (project.home() or Path.cwd()) / ".overtone" / "runs"


class Journal:
    """The journal of one run, held by one process at a time.

    Args:
        run_id: 32 hexadecimal digits.
        begun: of a journal that is not there yet: `store`, the public URI of the run's.
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
        _write(self.path, json.dumps({"kind": kind, **facts}).encode() + b"\n", "ab")

    @property
    def pending(self) -> list[Line]:
        """The lines that the store has not taken yet."""
        return [self._parsed(line) for line in self.path.read_bytes()[self._begin :].splitlines()]

    @property
    def has_ended(self) -> bool:
        """Whether the pending lines say how the run ended."""
        return any(line["kind"] == "status" for line in self.pending)

    def send(self) -> int:
        """Send all that is pending, and forget it.

        Returns:
            How many lines there were.

        Raises:
            MlflowException, OSError: the store does not answer, or refuses; all lines stay.
            TrackingError: the store in use is not the one that the run was begun in.
        """
        if lines := self.pending:
            if self.head.get("store") != store.public_uri():
                raise TrackingError(
                    f"run {self.run_id} belongs to {self.head.get('store')}; set MLFLOW_TRACKING_URI to it, not to "
                    f"{store.public_uri()}"
                )
            self._write_into_run(lines)
            os.truncate(self.path, self._begin)
        return len(lines)

    def _write_into_run(self, lines: list[Line]) -> None:
        """Neighbouring points go in batches, since single requests are slow."""
        client = store.client()
        for kind, group in itertools.groupby(lines, lambda line: line["kind"]):
            if kind == "points":
                entries.log_points(client, self.run_id, [point for line in group for point in line["points"]])
                continue
            for line in group:
                if kind == "tags":
                    entries.log_tags(client, self.run_id, line["values"])
                else:
                    client.set_terminated(self.run_id, line["status"], line["end"])

    def try_to_send(self, patience: float = 0.0) -> bool:
        """Send what is pending, unless the server was found away a moment ago.

        Args:
            patience: seconds to go on trying.

        Returns:
            Whether nothing is pending. `trouble` says what was in the way.
        """
        from mlflow.exceptions import MlflowException

        deadline = time.monotonic() + patience
        while True:
            try:
                with server.answering():
                    self.send()
            except (MlflowException, TrackingError, OSError) as error:
                self.trouble = " ".join(str(error).split())
            else:
                self.trouble = ""
                return True
            if time.monotonic() + _PAUSE_SECONDS > deadline:
                return False
            time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Let go of the journal; it is removed if the store has all of it."""
        try:
            if self.path.is_file() and self.path.stat().st_size == self._begin:
                self.path.unlink()
        finally:
            self._lock.release()

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


# --- afterwards ---------------------------------------------------------------------------------------------------------


def kept() -> list[str]:
    """Ids of the runs that have a journal here."""
    return sorted(path.stem for path in folder().glob("*.jsonl") if _ID.fullmatch(path.stem))


def sync(run_id: str) -> int:
    """Bring a run's journal into its store, which must answer, and remove it.

    Returns:
        How many lines were sent.

    Raises:
        TrackingError: the store does not answer or is another one, or a process is still recording the run.
    """
    server.require()
    with Journal(run_id) as journal, server.answering():
        return journal.send()


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
                if journal.has_ended or journal.head.get("host", platform.node()) != platform.node():
                    continue
                last = journal.path.stat().st_mtime_ns // 1_000_000
                journal.append("tags", values={REASON: "its process was gone; killed, perhaps for want of memory"})
                journal.append("status", status="KILLED", end=last)
                journal.try_to_send()
                found.append(run_id)
        except TrackingError:
            # It is being recorded, or its file is damaged, which `overtone sync` reports.
            continue
    return found


def now() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
