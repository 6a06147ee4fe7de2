"""What was done to which target: one line of JSON each, beside the targets; what a later call goes by."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import filelock

from overtone.enhance import places
from overtone.errors import OvertoneError

NAME = "enhanced.jsonl"
_LOCK = ".enhanced.lock"
# A bucket cannot append: its manifest is written again as a whole, this often.
_BUCKET_SECONDS = 10.0


@dataclass(frozen=True)
class Record:
    """The state of one target.

    `target` is its name in the output folder. `planned` precedes the work, so that a target without a later record is known to
    be an interrupted run's. `stamp` and `sha256` are the source's, `target_stamp` that of the target as it was left (empty if
    there was none), `recipe` the digest of model and options, `done` what was done and why, `seconds` the source's length,
    `at` the time (Unix).
    """

    target: str
    source: str
    state: Literal["planned", "done", "failed"]
    stamp: str
    recipe: str
    sha256: str = ""
    target_stamp: str = ""
    done: str = ""
    seconds: float = 0.0
    error: str = ""
    at: float = 0.0


class Manifest:
    """The records of an output folder, the last of each target, kept as they are added."""

    def __init__(self, folder: str) -> None:
        self.place = places.join(folder, NAME)
        self._file: IO[str] | None = None
        self._lines: list[str] = []
        self._written = time.monotonic()
        text = places.read_text(self.place) or ""
        # A line that an interrupted run did not end is no record.
        self._torn = bool(text) and not text.endswith("\n")
        self.records = dict(self._parsed(text.splitlines()))

    def _parsed(self, lines: Iterable[str]) -> Iterator[tuple[str, Record]]:
        fields = {field.name for field in dataclasses.fields(Record)}
        for line in lines:
            try:
                found = json.loads(line)
                record = Record(**{name: value for name, value in found.items() if name in fields})
            except (ValueError, TypeError, AttributeError):
                continue
            if places.is_address(self.place):
                self._lines.append(line)
            yield record.target, record

    def add(self, records: Iterable[Record]) -> None:
        """Keep records: on this machine at once, in a bucket soon; see `flush`."""
        for record in records:
            record = dataclasses.replace(record, at=round(time.time(), 3))
            self.records[record.target] = record
            self._lines.append(json.dumps(dataclasses.asdict(record), ensure_ascii=False))
        if not places.is_address(self.place) or time.monotonic() - self._written > _BUCKET_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        self._written = time.monotonic()
        if places.is_address(self.place):
            if self._lines:
                places.write_object(self.place, "\n".join(self._lines) + "\n")
            return
        if not self._lines:
            return
        if self._file is None:
            Path(self.place).parent.mkdir(parents=True, exist_ok=True)
            self._file = Path(self.place).open("a", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
            if self._torn:
                self._file.write("\n")
        self._file.write("\n".join(self._lines) + "\n")
        self._file.flush()
        self._lines.clear()

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def alone(folder: str) -> Iterator[None]:
    """Keeps a second run of this machine out of an output folder; a bucket has no such lock.

    Raises:
        OvertoneError: another run is at work there.
    """
    if places.is_address(folder):
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(Path(folder, _LOCK), timeout=0)
    try:
        with lock:
            yield
    except filelock.Timeout:
        raise OvertoneError(f"{folder}: another run is enhancing into this folder; wait for it or end it") from None
