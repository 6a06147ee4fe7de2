"""Laws of the store: one place whatever the folder's name, found again where the project is, quick to say that it is away."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import ModelMaker
from overtone.registry import fetch, register, registry, repair, resolve
from overtone.registry.register import Candidate
from overtone.registry.versions import RegistryError
from overtone.settings import Params
from overtone.tracking import address, store
from overtone.tracking.runs import TrainingRun
from overtone.tracking.store import AwayError, TrackingError
from test_registry import GATE, NAME, scored, shelf  # noqa: F401
from test_registry import light_packaging as _light_packaging

light_packaging = _light_packaging
# Nothing listens on it.
DEAD = "http://127.0.0.1:9"


# --- names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["per%20cent", "what?", "a#b c"])
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


def test_first_use_makes_the_store_of_a_folder_of_any_name(bare_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bare_project / "per%20cent"
    folder.mkdir()
    shutil.move(bare_project / "params.yaml", folder / "params.yaml")
    monkeypatch.chdir(folder)
    assert not store.exists()
    store.client()
    assert store.exists()
    assert {path.name for path in bare_project.iterdir()} == {folder.name}


def test_registered_names_may_hold_what_addresses_cannot(shelf: ModelMaker, project: Path) -> None:  # noqa: F811
    for name in ("over%20tone", "what?", "it's"):
        register.register([Candidate(shelf(1), scored(1.0))], GATE.model_copy(update={"name": name}))
        assert [row.version for row in registry.models(name)] == [1]
        assert (fetch.fetch(name, "champion", project / "cache") / "weights.safetensors").is_file()


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "databricks", "databricks://profile", "mlruns"])
def test_stores_that_cannot_be_used_are_refused_in_a_sentence(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
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
def champion(shelf: ModelMaker, project: Path) -> Path:  # noqa: F811
    """A project whose champion is registered."""
    register.register([Candidate(shelf(1), scored(1.0))], GATE)
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
    shelf: ModelMaker,  # noqa: F811
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from contextlib import nullcontext

    from overtone.registry import packaging

    folder = shelf(1)
    register.register([Candidate(folder, scored(1.0))], GATE)
    shutil.rmtree(project / "mlruns")
    with pytest.raises(RegistryError, match=r"`overtone repair 1` puts them back from .*/models/m1"):
        fetch.fetch(NAME, "champion", project / "cache")
    staged = project / "staged"
    shutil.copytree(folder, staged / "artifacts" / "model")
    monkeypatch.setattr(packaging, "package", lambda _: nullcontext(staged))
    assert repair.repair(NAME, "champion") == (1, folder)
    found = fetch.fetch(NAME, "champion", project / "cache")
    assert (found / "weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()


def test_weights_that_no_folder_has_cannot_be_put_back(champion: Path) -> None:
    (champion / "models" / "m1" / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(RegistryError, match="hold no weights of sha256"):
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


# --- a server that is away ----------------------------------------------------------------------------------------------


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.require, "__defaults__", (0.2,))


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_server_that_is_away_is_told_before_mlflow_is_asked(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch, away: None
) -> None:
    monkeypatch.setattr("mlflow.MlflowClient", None)
    with silent_server() as silent:
        for uri in (DEAD, silent, "postgresql://nobody@127.0.0.1:9/mlflow"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            with pytest.raises(AwayError, match="does not answer"):
                store.client()


def test_any_answer_of_a_server_is_one(bare_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        store.require()
        server.shutdown()


def test_cached_champion_serves_while_the_server_is_away(
    champion: Path, monkeypatch: pytest.MonkeyPatch, away: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, name = resolve.folder("auto")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    assert resolve.folder("auto") == (folder, name)
    assert "does not answer" in (said := capsys.readouterr().err)
    assert "going on with overtone version 1, fetched before as champion" in said
    assert resolve.version("auto") == "1"
    assert resolve.folder("1")[0] == folder
    with pytest.raises(AwayError, match="'challenger' was not fetched before"):
        resolve.folder("challenger")
    (folder / "config.json").write_text("changed")
    with pytest.raises(AwayError):
        resolve.folder("champion")


def test_without_a_cached_champion_a_server_that_is_away_is_an_error_and_not_another_model(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch, away: None
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    with pytest.raises(AwayError, match=r"no champion was fetched before \(`--model released` does without\)"):
        resolve.folder("auto")


def test_command_answers_soon_while_the_server_is_away(bare_project: Path, environment: dict[str, str]) -> None:
    """A whole process, imports included."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "overtone", "models"],
        cwd=bare_project,
        env=environment | {"MLFLOW_TRACKING_URI": DEAD},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"overtone: {DEAD}: does not answer")
    # MLflow's own client takes four minutes.
    assert time.monotonic() - begun < 60


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


def test_uri_of_a_database_keeps_its_arguments(bare_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///deep/other.db?timeout=9")
    assert store.tracking_uri() == f"sqlite:///{bare_project}/deep/other.db?timeout=9"
    assert address.database_file() == bare_project / "deep" / "other.db"
