"""What a command started ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from overtone.cli.app import ended_by_signals
from overtone.tracking import processes

# A command as reproduction runs them: it starts another process, says both numbers and works on.
COMMAND = """
import subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path("started.part").write_text(str(child.pid))
Path("started.part").rename("started")
time.sleep(600)
"""
# The same by one that does not end when it is asked to.
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + COMMAND
CALLER = """
import os, signal, sys
from pathlib import Path
from overtone.cli.app import ended_by_signals
from overtone.tracking import processes
# What a shell starts in the background ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
processes.GRACE_SECONDS = 1.0
folder = Path(sys.argv[2])
with ended_by_signals():
    try:
        processes.call([sys.executable, "-c", sys.argv[1]], folder, os.environ)
    finally:
        (folder / "cleared").touch()
"""


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(number: int) -> bool:
    return not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("command", "number", "status"), [(COMMAND, signal.SIGTERM, 143), (DEAF, signal.SIGINT, -signal.SIGINT)]
)
def test_interrupted_call_ends_all_it_started(
    command: str, number: signal.Signals, status: int, tmp_path: Path
) -> None:
    process = subprocess.Popen([sys.executable, "-c", CALLER, command, str(tmp_path)], stderr=subprocess.DEVNULL)
    started = tmp_path / "started"
    wait_for(started.exists)
    child = int(started.read_text())
    assert not gone(child)
    # To the caller alone: what it started is in a group of its own.
    process.send_signal(number)
    assert process.wait(60) == status
    assert (tmp_path / "cleared").exists()
    wait_for(lambda: gone(child))


def test_call_gives_the_status_and_runs_in_its_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, sys; open('here', 'w').write(os.environ['WORD']); sys.exit(3)"]
    assert processes.call(command, tmp_path, os.environ | {"WORD": "told"}) == 3
    assert (tmp_path / "here").read_text() == "told"


def test_signals_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, ended_by_signals():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
