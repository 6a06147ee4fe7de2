"""Laws of the command that runs when the champion has changed: told what happened, never able to undo it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from overtone.registry import hooks
from overtone.registry.decisions import Decision
from overtone.registry.hooks import HookError

SCRIPT = """
import json, os, sys
from pathlib import Path
names = ("OVERTONE_MODEL_URI", "OVERTONE_VERSION", "OVERTONE_PREVIOUS")
Path("told.json").write_text(json.dumps([json.load(sys.stdin), *(os.environ[name] for name in names)]))
"""


def decision(champion: int | None, previous: int | None) -> Decision:
    record = {"number": 4, "champion": champion, "reason": "by hand"}
    return Decision("overtone", 3, "rnn", 1.0, False, True, True, champion, previous, (), "by hand", record)


def told(project: Path) -> list[object]:
    found: list[object] = json.loads((project / "told.json").read_text())
    return found


@pytest.mark.parametrize("as_list", [True, False])
def test_command_is_told_the_decision(bare_project: Path, as_list: bool) -> None:
    (bare_project / "deploy.py").write_text(SCRIPT)
    command = [sys.executable, "deploy.py"] if as_list else f"cat | '{sys.executable}' deploy.py"
    hooks.announce(decision(3, 2), command, 60)
    record = {"number": 4, "champion": 3, "reason": "by hand"}
    assert told(bare_project) == [record, "models:/overtone/3", "3", "2"]


def test_first_champion_has_none_before_it(bare_project: Path) -> None:
    (bare_project / "deploy.py").write_text(SCRIPT)
    hooks.announce(decision(1, None), [sys.executable, "deploy.py"], 60)
    assert told(bare_project)[-1] == ""


@pytest.mark.parametrize("command", [None, "touch told.json"])
def test_nothing_runs_without_a_new_champion_or_a_command(bare_project: Path, command: str | None) -> None:
    hooks.announce(decision(2, 2), command, 60)
    hooks.announce(decision(3, 2), None, 60)
    assert not (bare_project / "told.json").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 3", "version 3 is champion, but the command ended with status 3"),
        (["no-such-command"], "version 3 is champion, but the command cannot be started"),
    ],
)
def test_failure_is_said_and_who_is_champion(bare_project: Path, command: str | list[str], said: str) -> None:
    with pytest.raises(HookError, match=said):
        hooks.announce(decision(3, 2), command, 60)


def test_slow_command_is_stopped_with_all_it_started(bare_project: Path) -> None:
    with pytest.raises(HookError, match=r"took more than 0\.5 s"):
        hooks.announce(decision(3, 2), "(sleep 2; touch told.json) & sleep 60", 0.5)
    time.sleep(2.5)
    assert not (bare_project / "told.json").exists()
