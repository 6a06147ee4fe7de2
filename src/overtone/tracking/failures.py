"""What a tracking server's refusal means to the one who typed the command, in a sentence."""

from __future__ import annotations

import os

from overtone.tracking import store


def sentence(error: BaseException) -> str | None:
    """What to tell of an error; None for one that is no refusal of a tracking server."""
    from mlflow.exceptions import MlflowException

    uri = store.public_uri()
    if isinstance(error, MlflowException) and (why := _of_database(str(error.message))):
        return f"{uri}: {why}"
    if not isinstance(error, MlflowException) or not uri.startswith(("http://", "https://")):
        return None
    told = " ".join(str(error.message).split())
    if error.error_code == "UNAUTHENTICATED":
        return f"{uri}: unknown user or wrong password; expected MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if error.error_code == "PERMISSION_DENIED":
        return f"{uri}: refused to {os.environ.get('MLFLOW_TRACKING_USERNAME') or 'a user without a name'}: {told}"
    if "failed with exception" in told:
        return f"{uri}: does not answer: {told}"
    return None


def _of_database(told: str) -> str | None:
    """What SQLite says of a disk that takes nothing."""
    known = (
        *("database or disk is full", "attempt to write a readonly database"),
        *("unable to open database file", "disk I/O error"),
    )
    return next((words for words in known if words in told), None)
