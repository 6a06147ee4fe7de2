"""One process at a time changes a registered model's champion, on one machine and on a shared server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from overtone.tracking import store
from overtone.tracking.versions import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "turn"
# Longer than any write takes to be seen by the others: what the tag's exclusion rests on.
SETTLE_SECONDS = 2.0
# A holder that crashed is given this long: scoring a champion afresh takes minutes.
LEASE = timedelta(hours=1)


@contextmanager
def turn(client: MlflowClient, name: str) -> Iterator[None]:
    """Wait for and hold the right to change a registered model, which must exist.

    A file lock keeps the processes of one machine apart. On a server, which other machines use too, a tag of the model does:
    who finds it empty writes its own mark, waits until every write begun meanwhile must have arrived, and goes on only if the
    mark is still there. Such a turn is handed back at the end, and is void after `LEASE`.

    Raises:
        RegistryError: the turn did not come within twice the lease.

    Source:
        Fischer's timed mutual exclusion: L. Lamport, A fast mutual exclusion algorithm, ACM TOCS 5 (1987), section 2.
    """
    with store.lock("registry"):
        if not _is_shared():
            yield
            return
        mark = _take(client, name)
        try:
            yield
        finally:
            if client.get_registered_model(name).tags.get(TAG) == mark:
                client.delete_registered_model_tag(name, TAG)


def _is_shared() -> bool:
    """Whether other machines can use the store: all but a database file."""
    return not store.tracking_uri().startswith("sqlite")


def _take(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    deadline = time.monotonic() + 2 * LEASE.total_seconds()
    while time.monotonic() < deadline:
        if _is_free(client.get_registered_model(name).tags.get(TAG, "")):
            mark = f"{datetime.now(UTC).isoformat(timespec='seconds')} {uuid.uuid4().hex}"
            try:
                client.set_registered_model_tag(name, TAG, mark)
            except MlflowException as error:
                if error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
                    raise
                # Two first writes of one tag collide in a database; the next look says who was quicker.
                mark = ""
            time.sleep(SETTLE_SECONDS)
            if client.get_registered_model(name).tags.get(TAG) == mark:
                return mark
        time.sleep(SETTLE_SECONDS / 4)
    raise RegistryError(
        f"{name}: the turn to change it did not come; if no process is at it, delete the model's tag {TAG}"
    )


def _is_free(mark: str) -> bool:
    if not mark:
        return True
    try:
        since = datetime.fromisoformat(mark.partition(" ")[0])
    except ValueError:
        return True
    return datetime.now(UTC) - since > LEASE
