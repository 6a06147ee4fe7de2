"""The command of the user's that runs when the champion has changed, to deploy it or to tell somebody."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overtone.registry import versions
from overtone.registry.decisions import Decision
from overtone.settings import project
from overtone.tracking import processes, store
from overtone.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

# Champions that come while the command runs, one after the other, before it is left to the next change.
_ROUNDS = 10


class HookError(TrackingError):
    """The command failed; the champion has changed all the same."""


def announce(decision: Decision, command: Sequence[str] | str | None, seconds: float) -> None:
    """Run the command if the decision changed the champion, for the version that is champion when it begins.

    One command runs at a time on this machine. If there is another champion when it has ended, it runs again for that one,
    so that the last one deployed is the champion. It gets the decision as JSON on its standard input, and the environment
    variables OVERTONE_MODEL_URI, OVERTONE_VERSION, OVERTONE_SHA256 (of the weights) and OVERTONE_PREVIOUS.

    Args:
        command: a list of arguments, or a line for the shell; None for no command.
        seconds: after which it is stopped, with all that it started. Ctrl-C stops it too.

    Raises:
        HookError: it cannot be started, takes too long or ends with another status than 0. Nothing is undone.
    """
    if not command or not decision.changed:
        return
    client = store.client()
    deployed, previous = None, decision.previous
    with store.lock("hook"):
        for _ in range(_ROUNDS):
            version = versions.resolve(client, decision.name, versions.CHAMPION)
            number = int(version.version)
            if number == deployed:
                return
            # Another command may have made another version champion since.
            others: dict[str, Any] = {"name": version.name, "version": number, "champion": number, "previous": previous}
            others |= {"reason": version.tags.get("decision", "")}
            _run(command, version, previous, decision.record if number == decision.champion else others, seconds)
            deployed = previous = number


def _run(
    command: Sequence[str] | str,
    version: ModelVersion,
    previous: int | None,
    record: Mapping[str, Any],
    seconds: float,
) -> None:
    facts = {
        "OVERTONE_MODEL_URI": f"models:/{version.name}/{version.version}",
        "OVERTONE_VERSION": str(version.version),
        "OVERTONE_SHA256": version.tags.get("weights_sha256", ""),
        "OVERTONE_PREVIOUS": "" if previous is None else str(previous),
        "MLFLOW_TRACKING_URI": store.tracking_uri(),
    }
    stands = f"register.on_champion: version {version.version} is champion, but the command"
    try:
        process = subprocess.Popen(
            command if isinstance(command, str) else list(command),
            shell=isinstance(command, str),
            cwd=project.home(),
            env=os.environ | facts,
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise HookError(f"{stands} cannot be started: {error}") from None
    try:
        process.communicate(json.dumps(record), timeout=seconds)
    except subprocess.TimeoutExpired:
        raise HookError(f"{stands} took more than {seconds:g} s and was stopped") from None
    finally:
        # On Ctrl-C, and after its time, it ends with all that it started.
        if process.poll() is None:
            processes.end(process)
    if process.returncode:
        raise HookError(f"{stands} ended with status {process.returncode}")
