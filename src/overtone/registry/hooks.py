"""The command of the user's that runs when the champion has changed, to deploy it or to tell somebody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence

from overtone.registry.decisions import Decision
from overtone.tracking import store
from overtone.tracking.store import TrackingError


class HookError(TrackingError):
    """The command failed; the champion has changed all the same."""


def announce(decision: Decision, command: Sequence[str] | str | None, seconds: float) -> None:
    """Run the command if the decision changed the champion.

    It runs in the project's root with the decision as JSON on its standard input, and with the environment variables
    OVERTONE_MODEL_URI, OVERTONE_VERSION and OVERTONE_PREVIOUS (empty if there was none).

    Args:
        decision: what was decided.
        command: a list of arguments, or a line for the shell; None for no command.
        seconds: after which it is stopped, with all that it started.

    Raises:
        HookError: it cannot be started, takes too long or ends with another status than 0. Nothing is undone.
    """
    if not command or not decision.changed:
        return
    facts = {
        "OVERTONE_MODEL_URI": f"models:/{decision.name}/{decision.champion}",
        "OVERTONE_VERSION": str(decision.champion),
        "OVERTONE_PREVIOUS": "" if decision.previous is None else str(decision.previous),
        "MLFLOW_TRACKING_URI": store.tracking_uri(),
    }
    stands = f"register.on_champion: version {decision.champion} is champion, but the command"
    try:
        process = subprocess.Popen(
            command if isinstance(command, str) else list(command),
            shell=isinstance(command, str),
            cwd=store.repository_root(),
            env=os.environ | facts,
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise HookError(f"{stands} cannot be started: {error}") from None
    try:
        process.communicate(json.dumps(decision.record), timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise HookError(f"{stands} took more than {seconds:g} s and was stopped") from None
    if process.returncode:
        raise HookError(f"{stands} ended with status {process.returncode}")
