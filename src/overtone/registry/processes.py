"""Commands that end, with all that they started, when this process is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# How long commands that were asked to end are waited for.
GRACE_SECONDS = 10.0


def call(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    output: int | None = None,
    errors: int | None = None,
) -> int:
    """The exit status of a command that ends, with all that it started, when this process is interrupted.

    Args:
        command: program and arguments.
        folder: where it runs.
        environment: all of its variables.
        output: descriptor of its standard output, or `subprocess.DEVNULL`; None for this process's own.
        errors: the same for its standard error.
    """
    process = subprocess.Popen(
        command, cwd=folder, env=dict(environment), stdout=output, stderr=errors, start_new_session=True
    )
    try:
        return process.wait()
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process and its group to end, and end those that do not."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
