"""One process at a time changes a registered model's champion, on one machine and on a shared server."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from overtone.tracking import store
from overtone.tracking.versions import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "turn"
# Longer than any write takes to be seen by the others: what the tag's exclusion rests on.
SETTLE_SECONDS = 2.0
# How often a holder changes its mark, and how long a mark that stays the same is respected.
BEAT_SECONDS = 15.0
LEASE_SECONDS = 180.0
# Scoring a champion afresh takes minutes, and several may stand before this one.
_PATIENCE_SECONDS = 7200.0


@contextmanager
def turn(client: MlflowClient, name: str) -> Iterator[None]:
    """Wait for and hold the right to change a registered model, which must exist.

    A file lock keeps the processes of one machine apart. On a server, which other machines use too, a tag of the model does:
    who finds it empty writes its own mark, waits until every write begun meanwhile must have arrived, and goes on only if the
    mark is still there. Such a turn is handed back at the end. A holder changes its mark every `BEAT_SECONDS`; one that stays
    the same for `LEASE_SECONDS`, by the clock of who waits, is of a dead holder. No time of day is compared: the clocks of
    machines differ, and are set.

    Raises:
        RegistryError: the turn did not come within two hours.

    Source:
        Fischer's timed mutual exclusion: L. Lamport, A fast mutual exclusion algorithm, ACM TOCS 5 (1987), section 2.
    """
    with store.lock("registry"):
        if not _is_shared():
            yield
            return
        holder = _take(client, name)
        ended = threading.Event()
        beating = threading.Thread(target=_beat, args=(client, name, holder, ended), daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            if _mark(client, name).startswith(holder):
                client.delete_registered_model_tag(name, TAG)


def _is_shared() -> bool:
    """Whether other machines can use the store: all but a database file."""
    return not store.tracking_uri().startswith("sqlite")


def _mark(client: MlflowClient, name: str) -> str:
    return str(client.get_registered_model(name).tags.get(TAG, ""))


def _take(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    holder = uuid.uuid4().hex
    begun = time.monotonic()
    seen, since = "", begun
    while time.monotonic() - begun < _PATIENCE_SECONDS:
        mark = _mark(client, name)
        if mark != seen:
            seen, since = mark, time.monotonic()
        if not mark or time.monotonic() - since > LEASE_SECONDS:
            own = f"{holder} 0"
            try:
                client.set_registered_model_tag(name, TAG, own)
            except MlflowException as error:
                if error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
                    raise
                # Two first writes of one tag collide in a database; the next look says who was quicker.
            time.sleep(SETTLE_SECONDS)
            if _mark(client, name) == own:
                return holder
        time.sleep(SETTLE_SECONDS / 4)
    raise RegistryError(
        f"{name}: the turn to change it did not come; if no process is at it, delete the model's tag {TAG}"
    )


def _beat(client: MlflowClient, name: str, holder: str, ended: threading.Event) -> None:
    count = 0
    while not ended.wait(BEAT_SECONDS):
        count += 1
        # A server that is away is back for the next beat, or the turn is void.
        with suppress(Exception):
            if _mark(client, name).startswith(holder):
                client.set_registered_model_tag(name, TAG, f"{holder} {count}")
