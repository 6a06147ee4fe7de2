"""Which process something belongs to, and whether that is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil


def this() -> dict[str, Any]:
    """This process, as others can look for it."""
    pid = os.getpid()
    return {"host": _host(), "pid": pid, "started": _started(pid)}


def gone(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine runs no more; of those elsewhere nothing is known."""
    if process["host"] != _host():
        return False
    started = _started(process["pid"])
    return started is None or abs(started - process["started"]) > 1.0


def _started(pid: int) -> float | None:
    """When a process of this machine was started: numbers are used again. None where there is none that runs."""
    known: Any = psutil  # has no types
    try:
        process = known.Process(pid)
        return None if process.status() == known.STATUS_ZOMBIE else float(process.create_time())
    except known.NoSuchProcess:
        return None


def _host() -> str:
    """This machine since it was started: names alone are not always unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}".strip()
