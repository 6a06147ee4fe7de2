"""Laws of the project's root: the nearest folder with our settings, whatever else git, DVC or other projects have around it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import ROOT
from overtone import cli
from overtone.cli import environment
from overtone.errors import OvertoneError
from overtone.registry import registry, resolve
from overtone.registry.registry import ModelRow
from overtone.settings import project
from overtone.settings.project import NoProjectError
from overtone.tracking import store

SETTINGS = (ROOT / "params.yaml").read_text()
OTHER = "prepare: {split: 0.2}\ntrain: {epochs: 3}\n"


def settle(folder: Path, settings: str = SETTINGS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / project.SETTINGS).write_text(settings)
    return folder


@pytest.fixture
def nowhere(tmp_path_factory: pytest.TempPathFactory, bare_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory outside every project."""
    folder = tmp_path_factory.mktemp("nowhere")
    monkeypatch.chdir(folder)
    return folder


def test_project_in_a_subfolder_of_a_larger_repository_is_its_own_root(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(nowhere)], check=True)
    (nowhere / ".dvc").mkdir()
    settle(nowhere, OTHER)
    voice = settle(nowhere / "ml" / "voice")
    (voice / "notes" / "deep").mkdir(parents=True)
    # As DVC sets it in a stage: its root is the larger repository's.
    monkeypatch.setenv("DVC_ROOT", str(nowhere))
    for folder in (voice, voice / "notes" / "deep"):
        monkeypatch.chdir(folder)
        assert project.root() == project.source_root() == voice
        assert store.tracking_uri() == f"sqlite:///{voice}/mlflow.db"


def test_settings_of_another_project_are_not_ours(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(nowhere, OTHER)
    (nowhere / "mlflow.db").write_bytes(b"theirs")
    assert project.home() is None
    assert not store.exists()
    assert resolve.version("auto") == "released-cnn"
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere / "cache"))
    assert project.cache() == nowhere / "cache" / "overtone" / "models"
    assert (nowhere / "mlflow.db").read_bytes() == b"theirs"


def test_broken_settings_of_ours_are_ours_all_the_same(nowhere: Path) -> None:
    settle(nowhere, SETTINGS.replace("seed:", "seed: [", 1))
    assert project.root() == nowhere


def test_subfolder_registers_and_looks_up_under_the_projects_name(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settle(nowhere, SETTINGS.replace("name: overtone", "name: acme", 1)) / "notes"
    folder.mkdir()
    monkeypatch.chdir(folder)
    asked: list[str] = []

    def models(name: str) -> list[ModelRow]:
        asked.append(name)
        return []

    monkeypatch.setattr(registry, "models", models)
    assert CliRunner().invoke(cli.app, ["models"]).output == "acme: nothing registered yet; run dvc repro\n"
    assert asked == [resolve.registered_name()] == ["acme"]


def test_stages_work_in_the_projects_root_wherever_they_are_started(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settle(nowhere) / "notes"
    folder.mkdir()
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(cli.app, ["stage", "register"])
    assert "reports/cnn/metrics.json" in str(result.exception)
    assert Path.cwd() == nowhere


def test_command_that_needs_a_project_says_so_outside(nowhere: Path) -> None:
    for command in (["models"], ["stage", "register"], ["summary"]):
        result = CliRunner().invoke(cli.app, command)
        assert isinstance(result.exception, NoProjectError), result.output
        assert "no Overtone project here or in a folder above" in str(result.exception)


@pytest.mark.parametrize("below", ["", "ml/voice"])
def test_copy_of_an_experiment_has_its_own_source_and_the_projects_store(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    home = settle(nowhere / below)
    copy = settle(nowhere / ".dvc" / "tmp" / "exps" / "tmp0" / below)
    (copy / "src").mkdir()
    for folder in (copy, copy / "src"):
        monkeypatch.chdir(folder)
        assert project.in_copy()
        assert (project.source_root(), project.root()) == (copy, home)
        assert store.tracking_uri() == f"sqlite:///{home}/mlflow.db"
    monkeypatch.chdir(home)
    assert not project.in_copy()


# --- .env ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_variables_are_read_with_and_without_a_byte_order_mark(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    (bare_project / ".env").write_bytes("MLFLOW_TRACKING_USERNAME=åsa\nPATH=/nowhere\n".encode(encoding))
    environment.load()
    import os

    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "åsa"
    assert os.environ["PATH"] != "/nowhere"


def test_variables_in_another_encoding_are_refused_by_name(bare_project: Path) -> None:
    (bare_project / ".env").write_bytes("MLFLOW_TRACKING_USERNAME=åsa\n".encode("latin-1"))
    with pytest.raises(OvertoneError, match=r"\.env: not text in UTF-8"):
        environment.load()
