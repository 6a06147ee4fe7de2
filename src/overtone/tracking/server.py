"""A tracking server that is away, or refuses: found out within seconds, and reported in a sentence."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from overtone.tracking.address import TrackingError, host, is_database, public_uri, tracking_uri

# How long an answer is waited for, and how long it counts: an attempt that failed is made again soon, but not by each
# request of one command.
ANSWER_SECONDS = 3.0
_FRESH_SECONDS = {True: 30.0, False: 5.0}
# What MLflow's client takes four minutes for otherwise: seven retries with growing pauses, two minutes each.
BOUNDS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
# What SQLite says of a disk that takes nothing.
_DISK = (
    *("database or disk is full", "attempt to write a readonly database"),
    *("unable to open database file", "disk I/O error"),
)
# Address, time of the last attempt, and what kept the server from answering.
_last: tuple[str, float, Exception | None] = ("", 0.0, None)


class AwayError(TrackingError):
    """The store's server does not answer."""


def require() -> None:
    """Make sure that the store's server answers, before MLflow's client tries for minutes.

    Raises:
        AwayError: it does not, or did not a moment ago.
    """
    global _last
    place, uri = host(), tracking_uri()
    if place is None:
        return
    known, when, trouble = _last
    if known != uri or time.monotonic() - when > _FRESH_SECONDS[trouble is None]:
        trouble = _ask(uri, place, ANSWER_SECONDS)
        _last = (uri, time.monotonic(), trouble)
    if trouble is not None:
        raise _away(getattr(trouble, "reason", None) or getattr(trouble, "strerror", None) or trouble)


def _ask(uri: str, place: tuple[str, int], seconds: float) -> Exception | None:
    """What keeps a server from answering within so many seconds; None if it answers."""
    found: list[Exception | None] = []

    def ask() -> None:
        trouble: Exception | None = None
        try:
            if is_database(uri):
                socket.create_connection(place, timeout=seconds).close()
            else:
                urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=seconds).close()
        except urllib.error.HTTPError:
            # Any answer is one; what a request is refused for is reported when it is made.
            pass
        except (OSError, http.client.HTTPException) as error:
            trouble = error
        found.append(trouble)

    # Looking up a name, and an answer that comes byte by byte, know no limit of their own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else TimeoutError("timed out")


def _away(reason: object) -> AwayError:
    return AwayError(
        f"{public_uri()}: does not answer ({reason}); start the tracking server, or train without it by an empty "
        "MLFLOW_TRACKING_URI, in the project's own store, from which `overtone sync` brings the runs along afterwards"
    )


@contextmanager
def answering() -> Iterator[None]:
    """Requests to a server that answered a moment ago and may have gone away since.

    Raises:
        AwayError: it does not answer any more.
    """
    global _last
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if not _is_away(error):
            raise
        _last = (tracking_uri(), time.monotonic(), error)
        raise _away(" ".join(str(error.message).split())) from None


def _is_away(error: BaseException) -> bool:
    """Whether MLflow's client found no server: it has no error of its own for that."""
    return host() is not None and "failed with exception" in str(error)


def refusal(error: BaseException) -> str | None:
    """An error of MLflow's as a sentence for the user; None for one that is no refusal of a store."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return None
    uri, message = public_uri(), " ".join(str(error.message).split())
    if why := next((words for words in _DISK if words in message), None):
        return f"{uri}: {why}"
    if not uri.startswith(("http://", "https://")):
        return None
    if _is_away(error):
        return str(_away(message))
    if error.error_code == "UNAUTHENTICATED":
        return f"{uri}: unknown user or wrong password; expected MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if error.error_code == "PERMISSION_DENIED":
        return f"{uri}: refused to {os.environ.get('MLFLOW_TRACKING_USERNAME') or 'a user without a name'}: {message}"
    return None
