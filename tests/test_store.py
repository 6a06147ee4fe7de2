"""Laws of the store: one place whatever the folder's name, found again where the project is, quick to say that it is away."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import ModelMaker
from overtone.registry import fetch, register, registry, repair
from overtone.registry.register import Candidate
from overtone.registry.versions import RegistryError
from overtone.settings import Params
from overtone.tracking import store, ui
from overtone.tracking.runs import TrainingRun
from overtone.tracking.store import TrackingError
from test_registry import GATE, NAME, model_number, scored  # noqa: F401
from test_registry import light_packaging as _light_packaging

light_packaging = _light_packaging
# Nothing listens on it.
DEAD = "http://127.0.0.1:9"


# --- names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["per%20cent", "what? a#b c"])
def test_folders_of_any_name_have_their_store_and_files_in_them(
    bare_project: Path, empty_store: Path, params: Params, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = bare_project / name
    folder.mkdir()
    shutil.move(bare_project / "params.yaml", folder / "params.yaml")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    with TrainingRun("rnn", params) as run:
        pass
    assert registry.models(NAME) == []
    assert store.public_uri() == "sqlite:///mlflow.db"
    assert (folder / "mlruns" / "overtone" / run.run_id / "artifacts" / "source" / "params.yaml").is_file()
    assert {path.name for path in bare_project.iterdir()} == {name}


def test_registered_names_may_hold_what_addresses_cannot(model_number: ModelMaker, project: Path) -> None:  # noqa: F811
    for name in ("over%20tone", "what?", "it's"):
        register.register([Candidate(model_number(1), scored(1.0))], GATE.model_copy(update={"name": name}))
        assert [row.version for row in registry.models(name)] == [1]
        assert (fetch.fetch(name, "champion", project / "cache") / "weights.safetensors").is_file()


def test_stores_that_cannot_be_used_are_refused_in_a_sentence(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri in ("./mlruns", "file:///tmp/mlruns", "databricks", "databricks://profile", "mlruns"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(TrackingError, match=r"MLFLOW_TRACKING_URI: '.*' is no store .* expected http://HOST:PORT"):
            store.client()


def test_user_without_a_name_can_work(project: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number alone."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with TrainingRun("rnn", params) as run:
        pass
    assert store.client().get_run(run.run_id).info.status == "FINISHED"
    assert store.user() == f"uid{os.getuid()}"


# --- a project elsewhere ------------------------------------------------------------------------------------------------


@pytest.fixture
def champion(model_number: ModelMaker, project: Path) -> Path:  # noqa: F811
    """A project whose champion is registered."""
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    return project


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_moved_or_copied_project_goes_on_in_its_own_folder(
    champion: Path,
    params: Params,
    make_model: ModelMaker,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    new = tmp_path_factory.mktemp("elsewhere") / "two%20words"
    shutil.copytree(champion, new)
    if how == "moved":
        monkeypatch.chdir(new)
        shutil.rmtree(champion)
    before = {path: path.stat().st_mtime_ns for path in champion.rglob("*")}
    monkeypatch.chdir(new)
    # MLflow sets it to the store that was used last; in a new process it is not set.
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert (fetch.fetch(NAME, "champion", new / "cache") / "weights.safetensors").is_file()
    with TrainingRun("rnn", params) as run:
        pass
    assert (new / "mlruns" / "overtone" / run.run_id).is_dir()
    earlier = store.client().get_run(registry.models(NAME)[0].run_id)
    assert earlier.info.artifact_uri.startswith(f"{new.as_uri()}/mlruns/")
    assert {path: path.stat().st_mtime_ns for path in champion.rglob("*")} == before


def test_files_that_are_gone_are_put_back_by_the_command_that_the_error_names(
    model_number: ModelMaker,  # noqa: F811
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from contextlib import nullcontext

    from overtone.registry import packaging

    folder = model_number(1)
    register.register([Candidate(folder, scored(1.0))], GATE)
    shutil.rmtree(project / "mlruns")
    with pytest.raises(RegistryError, match=r"`overtone repair 1` puts them back from .*/models/m1"):
        fetch.fetch(NAME, "champion", project / "cache")
    staged = project / "staged"
    shutil.copytree(folder, staged / "artifacts" / "model")
    monkeypatch.setattr(packaging, "package", lambda *_: nullcontext(staged))
    assert repair.repair(NAME, "champion") == (1, folder)
    found = fetch.fetch(NAME, "champion", project / "cache")
    assert (found / "weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()


def test_weights_that_no_folder_has_cannot_be_put_back(champion: Path) -> None:
    (champion / "models" / "m1" / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(RegistryError, match=r"hold no sound copy of its files"):
        repair.repair(NAME, "champion")


# --- locks --------------------------------------------------------------------------------------------------------------


def test_lock_lies_beside_the_database_for_every_user(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.lock("registry"):
        (path,) = project.glob("mlflow.db*.lock")
        assert path.stat().st_mode & 0o666 == 0o666
        monkeypatch.setenv("TMPDIR", str(project / "tmp"))
        monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
        with (
            ThreadPoolExecutor(1) as pool,
            pytest.raises(TrackingError, match=r"registry\.lock: another process has held"),
        ):
            pool.submit(enter, "registry").result()
        enter("another purpose")


def enter(purpose: str) -> None:
    with store.lock(purpose):
        pass


def test_lock_of_a_server_is_the_clones(bare_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    enter("registry")
    assert (bare_project / ".overtone" / "locks" / "registry.lock").exists()


# --- PostgreSQL ---------------------------------------------------------------------------------------------------------


def test_tags_are_cut_to_what_postgresql_takes(champion: Path) -> None:
    from mlflow.exceptions import MlflowException

    from overtone.registry import versions

    client = store.client()
    with pytest.raises(MlflowException, match="version=2999"):
        versions.set_champion(client, NAME, 1, list(range(1, 3000)))
    registered = client.get_registered_model(NAME)
    assert len(registered.tags[versions.HISTORY]) <= 5000
    assert versions.history(registered)[-1] == 2999
    versions.write(client, NAME, 1, {"decision": "long " * 2000})
    assert len(client.get_model_version(NAME, "1").tags["decision"]) <= 5000


# --- MLflow's page ------------------------------------------------------------------------------------------------------


def test_page_of_the_projects_own_store_opens_with_one_command(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda _, command, __: started.append(command))
    ui.serve("127.0.0.1", 5001)
    (command,) = started
    assert command[1:5] == ["-m", "mlflow", "server", "--backend-store-uri"]
    assert command[5] == f"sqlite:///{project}/mlflow.db" and command[-1] == "5001"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:secret@mlflow.example")
    ui.serve("127.0.0.1", 5001)
    assert len(started) == 1 and capsys.readouterr().out.endswith("which shows them: https://mlflow.example\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    with pytest.raises(TrackingError, match="nothing is recorded yet"):
        ui.serve("127.0.0.1", 5001)
