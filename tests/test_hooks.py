"""Laws of the command that runs when the champion has changed: it gets the decision, never able to undo it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from overtone.registry import hooks, versions
from overtone.registry.decisions import Decision
from overtone.registry.hooks import HookError

SCRIPT = """
import json, os, sys
from pathlib import Path
names = ("OVERTONE_MODEL_URI", "OVERTONE_VERSION", "OVERTONE_SHA256", "OVERTONE_PREVIOUS")
Path("given.json").write_text(json.dumps([json.load(sys.stdin), *(os.environ[name] for name in names)]))
"""


class Registry:
    """Stands for a registry whose champion other processes may change."""

    champion = 3

    def resolve(self, *_: object) -> SimpleNamespace:
        tags = {"weights_sha256": f"digest-{self.champion}", "decision": "promoted: by another process"}
        return SimpleNamespace(name="overtone", version=str(self.champion), tags=tags)


@pytest.fixture
def registry(project: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry()
    monkeypatch.setattr(versions, "resolve", found.resolve)
    return found


def decision(champion: int | None, previous: int | None) -> Decision:
    record = {"action": "promote", "champion": champion, "reason": "by hand"}
    return Decision("overtone", 3, "rnn", True, champion, previous, "by hand", record=record)


def given(project: Path) -> list[object]:
    found: list[object] = json.loads((project / "given.json").read_text())
    return found


@pytest.mark.parametrize("as_list", [True, False])
def test_command_gets_the_decision_with_version_and_digest(
    registry: Registry, bare_project: Path, as_list: bool
) -> None:
    (bare_project / "deploy.py").write_text(SCRIPT)
    command = [sys.executable, "deploy.py"] if as_list else f"cat | '{sys.executable}' deploy.py"
    hooks.announce(decision(3, 2), command, 60)
    record = {"action": "promote", "champion": 3, "reason": "by hand"}
    assert given(bare_project) == [record, "models:/overtone/3", "3", "digest-3", "2"]
    hooks.announce(decision(3, None), command, 60)
    assert given(bare_project)[-1] == "", "the first one has none before it"


def test_nothing_runs_without_a_new_champion_or_a_command(bare_project: Path) -> None:
    hooks.announce(decision(2, 2), "touch given.json", 60)
    hooks.announce(decision(3, 2), None, 60)
    assert not (bare_project / "given.json").exists()


def test_older_champion_is_never_deployed_last(
    registry: Registry, bare_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process promotes version 4 while the command deploys 3, and version 5 while it deploys 4."""
    run = hooks._run

    def overtaken(*arguments: object) -> None:
        run(*arguments)  # type: ignore[arg-type]
        registry.champion = min(registry.champion + 1, 5)

    monkeypatch.setattr(hooks, "_run", overtaken)
    hooks.announce(decision(3, 2), 'echo "$OVERTONE_PREVIOUS $OVERTONE_VERSION" >> deployed', 60)
    assert (bare_project / "deployed").read_text().splitlines() == ["2 3", "3 4", "4 5"]


def test_champion_that_was_overtaken_before_the_command_began_is_not_deployed(
    registry: Registry, bare_project: Path
) -> None:
    registry.champion = 7
    hooks.announce(decision(3, 2), 'echo "$OVERTONE_VERSION" >> deployed', 60)
    assert (bare_project / "deployed").read_text() == "7\n"


def test_failure_is_reported_and_who_is_champion(registry: Registry, bare_project: Path) -> None:
    for command, message in (
        ("exit 3", "version 3 is champion, but the command ended with status 3"),
        (["no-such-command"], "version 3 is champion, but the command cannot be started"),
    ):
        with pytest.raises(HookError, match=message):
            hooks.announce(decision(3, 2), command, 60)


LEAVES_A_TRACE = "(sleep 1; touch given.json) & sleep 60"


def test_slow_command_is_stopped_with_all_it_started(registry: Registry, bare_project: Path) -> None:
    with pytest.raises(HookError, match=r"took more than 0\.3 s"):
        hooks.announce(decision(3, 2), LEAVES_A_TRACE, 0.3)
    time.sleep(1.2)
    assert not (bare_project / "given.json").exists()


def test_interruption_ends_the_command(registry: Registry, bare_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hooks.announce(decision(3, 2), LEAVES_A_TRACE, 60)
    time.sleep(1.2)
    assert not (bare_project / "given.json").exists()
