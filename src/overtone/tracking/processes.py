"""Commands that end, with all that they started, when this process is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# How long commands that were asked to end are waited for.
GRACE_SECONDS = 10.0


def call(command: Sequence[str], folder: Path, environment: Mapping[str, str], output: int | None = None) -> int:
    """The exit status of a command that ends, with all that it started, when this process is interrupted.

    Args:
        command: program and arguments.
        folder: where it runs.
        environment: all of its variables.
        output: descriptor of its standard output; None for this process's own.
    """
    process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=output, start_new_session=True)
    try:
        return process.wait()
    except BaseException:
        end(process, GRACE_SECONDS)
        raise


def end(process: subprocess.Popen[Any], seconds: float = 0.0) -> None:
    """End a process and its group.

    Args:
        process: started in a session of its own; one that has ended may have left others behind.
        seconds: how long they have to end when they are asked to; 0 ends them at once.
    """
    with suppress(ProcessLookupError, PermissionError):
        if seconds:
            os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
