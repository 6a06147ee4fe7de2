"""Laws of the released models: fetched when first wanted, then at hand, and the answer where there is no champion."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import ROOT, ModelMaker
from overtone import cli
from overtone.registry import fetch, released, resolve
from overtone.registry.released import ReleasedError
from overtone.tracking import store

FILES = ("weights.safetensors", "config.json")


def run(folder: Path, environment: Mapping[str, str], *command: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A project that has released its two models: git, DVC and a remote beside it, but no cache, as it would be cloned."""
    folder = tmp_path_factory.mktemp("origin")
    project, environment = folder / "project", environment | {"DVC_SITE_CACHE_DIR": str(folder / "site")}
    for kind in ("rnn", "cnn"):
        (project / "released" / kind).mkdir(parents=True)
        for name in FILES:
            (project / "released" / kind / name).write_text(f"{name} of the {kind}")
    run(project, environment, "git", "init", "-q")
    run(project, environment, "dvc", "init", "-q")
    run(project, environment, "dvc", "config", "core.analytics", "false")
    run(project, environment, "dvc", "remote", "add", "-q", "-d", "store", "../remote")
    run(project, environment, "dvc", "add", "-q", "released/rnn", "released/cnn")
    run(project, environment, "dvc", "push", "-q")
    run(project, environment, "git", "add", "-A")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    run(project, environment, *git, "commit", "-qm", "released")
    for path in (project / ".dvc" / "cache", project / "released" / "rnn", project / "released" / "cnn"):
        shutil.rmtree(path)
    return folder


@pytest.fixture
def clone(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone, with the remote beside it."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    shutil.copytree(origin, tmp_path / "clone")
    return tmp_path / "clone" / "project"


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process may be started."""

    def run(*command: Any, **_: Any) -> None:
        raise AssertionError(command)

    monkeypatch.setattr(subprocess, "run", run)


def local(folder: Path, kind: str = "cnn") -> None:
    """The pointer file of a released model that is there already, as far as can be seen."""
    (folder / "released").mkdir(exist_ok=True)
    (folder / "released" / f"{kind}.dvc").write_text("outs: []\n")


# --- fetch --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("released", "cnn"), ("released-rnn", "rnn"), ("released-cnn", "cnn")])
def test_missing_model_is_pulled_and_no_other(clone: Path, name: str, kind: str) -> None:
    folder = released.fetch(name, clone)
    assert folder == clone / "released" / kind
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        file: f"{file} of the {kind}" for file in FILES
    }
    assert [path.name for path in (clone / "released").iterdir() if path.is_dir()] == [kind]


def test_pulled_model_is_at_hand_afterwards(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = released.fetch("released", clone)
    shutil.rmtree(clone.parent / "remote")
    monkeypatch.setattr(subprocess, "run", None)
    assert released.fetch("released", clone) == first


def test_model_that_is_there_is_taken_as_it_is(tmp_path: Path, never: None) -> None:
    local(tmp_path)
    folder = tmp_path / "released" / "cnn"
    folder.mkdir()
    for name in FILES:
        (folder / name).touch()
    assert released.fetch("released", tmp_path) == tmp_path / "released" / "cnn"


@pytest.mark.parametrize("name", released.NAMES)
def test_project_without_released_models_is_explained(tmp_path: Path, never: None, name: str) -> None:
    with pytest.raises(ReleasedError, match=r"\.dvc: no such file; released models come with a clone of the project"):
        released.fetch(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hurt", ["empty", "missing"])
def test_remote_without_the_model_is_one_clear_message(clone: Path, hurt: str) -> None:
    shutil.rmtree(clone.parent / "remote")
    if hurt == "empty":
        (clone.parent / "remote").mkdir()
    with pytest.raises(ReleasedError, match=r"released-cnn: dvc pull failed: .*failed to pull data") as caught:
        released.fetch("released-cnn", clone)
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (clone / "released" / "cnn").exists()


def test_failed_pull_may_be_tried_again(clone: Path) -> None:
    remote = clone.parent / "remote"
    remote.rename(clone.parent / "away")
    with pytest.raises(ReleasedError):
        released.fetch("released", clone)
    (clone.parent / "away").rename(remote)
    assert (released.fetch("released", clone) / "config.json").is_file()


def test_folder_outside_dvc_is_one_clear_message(tmp_path: Path) -> None:
    local(tmp_path)
    with pytest.raises(ReleasedError, match=r"released: dvc pull failed: .*not inside of a DVC repository"):
        released.fetch("released", tmp_path)


def test_pull_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    local(tmp_path)
    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(ReleasedError, match=r"released: dvc pull took more than \d+ s"):
        released.fetch("released", tmp_path)


# --- the repository's own remote, and a built package -------------------------------------------------------------------


@pytest.fixture
def whole(clone: Path, never: None) -> Path:
    """A clone whose remote is its own folder, where no process may be started."""
    (clone.parent / "remote").rename(clone / "dvcstore")
    return clone


def test_model_in_the_repository_needs_no_dvc(whole: Path) -> None:
    folder = released.find("released-cnn", whole)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {name: f"{name} of the cnn" for name in FILES}
    assert sorted(path.name for path in (whole / "released").iterdir()) == [".gitignore", "cnn", "cnn.dvc", "rnn.dvc"]


@pytest.mark.parametrize("name", FILES)
def test_model_that_is_not_what_was_released_is_refused(whole: Path, name: str) -> None:
    path = released.find("released", whole) / name
    path.write_text("changed")
    with pytest.raises(ReleasedError, match=rf"{path}: not the file that was released"):
        released.find("released", whole)


@pytest.mark.parametrize("which", ["listing", "file"])
def test_damaged_object_makes_no_model(whole: Path, which: str) -> None:
    for path in (whole / "dvcstore").rglob("*"):
        if path.is_file() and (path.suffix == ".dir") == (which == "listing"):
            path.chmod(0o644)
            path.write_text(path.read_text() + " ")
    with pytest.raises(ReleasedError):
        released.find("released", whole)
    assert not (whole / "released" / "cnn").exists()
    assert list((whole / "released").glob(".cnn.*")) == []


@pytest.fixture
def packed(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models inside a package, as a build puts them there, with no clone anywhere."""
    for kind in released.KINDS:
        listing = released.unpack(whole, kind, tmp_path / "weights" / kind)
        (tmp_path / "weights" / f"{kind}.json").write_text(json.dumps(listing))
    shutil.rmtree(whole)
    monkeypatch.setattr(released, "PACKED", tmp_path / "weights")
    monkeypatch.setattr(released, "_CLONE", tmp_path)
    return tmp_path / "weights"


def test_package_carries_its_models_anywhere(packed: Path, tmp_path: Path) -> None:
    for name, kind in released.NAMES.items():
        assert released.find(name, tmp_path) == packed / kind
    (packed / "cnn" / "config.json").write_text("changed")
    with pytest.raises(ReleasedError, match="not the file that was released"):
        released.find("released", tmp_path)


def test_project_with_released_models_of_its_own_comes_before_the_package(packed: Path, bare_project: Path) -> None:
    local(bare_project)
    shutil.copytree(packed / "rnn", bare_project / "released" / "cnn")
    assert released.find("released", bare_project) == bare_project / "released" / "cnn"
    assert released.find("released-rnn", bare_project) == packed / "rnn"


def test_model_elsewhere_without_dvc_is_explained(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "find_spec", lambda _: None)
    with pytest.raises(ReleasedError, match=r"needs the extra `train`: pip install 'overtone\[train\]'"):
        released.find("released", clone)


# --- auto ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(bare_project: Path, make_model: ModelMaker) -> Path:
    """A project with its settings and the released model at hand."""
    shutil.copyfile(ROOT / "params.yaml", bare_project / "params.yaml")
    local(bare_project)
    return make_model("cnn").rename(bare_project / "released" / "cnn")


def weights(folder: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")


def same(upsampler: Any, folder: Path) -> bool:
    held = {
        f"{task}.{name}": value
        for task, network in upsampler.model.networks.items()
        for name, value in network.state_dict().items()
    }
    return all(bool((held[name] == value).all()) for name, value in weights(folder).items())


def test_without_a_store_auto_is_the_released_model_and_makes_none(model: Path, bare_project: Path) -> None:
    upsampler, name = resolve.upsampler("auto")
    assert name == "released"
    assert same(upsampler, model)
    assert not (bare_project / "mlflow.db").exists()
    assert not (bare_project / "mlruns").exists()


def test_without_a_champion_auto_is_the_released_model(model: Path, project: Path) -> None:
    upsampler, name = resolve.upsampler("auto")
    assert name == "released"
    assert same(upsampler, model)


def test_store_elsewhere_that_nobody_used_is_not_made(
    model: Path, bare_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///deep/other.db?timeout=9")
    assert not store.exists()
    assert resolve.upsampler("auto")[1] == "released"
    assert not (bare_project / "deep").exists()


def test_champion_comes_before_the_released_model(
    model: Path, project: Path, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = make_model("champion", seed=9)
    client = store.client()
    client.create_registered_model("overtone")
    version = client.create_model_version("overtone", source=champion.as_uri()).version
    assert resolve.upsampler("auto")[1] == "released", "a version without the alias is no champion"
    client.set_registered_model_alias("overtone", "champion", version)
    monkeypatch.setattr(fetch, "fetch", lambda *_: champion)
    upsampler, name = resolve.upsampler("auto")
    assert name == "champion"
    assert same(upsampler, champion)
    assert not same(upsampler, model)


def test_released_is_the_model_and_not_the_folder_of_that_name(model: Path, bare_project: Path) -> None:
    """Released models lie in a folder `released` of the project's root, where commands are run."""
    assert (bare_project / "released").is_dir()
    upsampler, name = resolve.upsampler("released")
    assert name == "released"
    assert same(upsampler, model)


def test_released_model_enhances_from_the_command_line(
    model: Path, bare_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from overtone import audio

    audio.write(bare_project / "old.wav", np.full((1, 4_000), 0.1, np.float32), 16_000)
    monkeypatch.setattr("sys.argv", ["overtone", "enhance", "old.wav", "new.wav"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert "by the RNN (released)" in capsys.readouterr().out.replace("\n", " ")
    assert audio.probe(bare_project / "new.wav").frames == 12_000


def test_released_model_is_copied_by_fetch(model: Path, bare_project: Path) -> None:
    assert CliRunner().invoke(cli.app, ["fetch", "released", str(bare_project / "copy")]).exit_code == 0
    assert {path.name: path.read_bytes() for path in (bare_project / "copy").iterdir()} == {
        path.name: path.read_bytes() for path in model.iterdir()
    }


def test_processes_that_unpack_together_all_get_the_model(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has made its own copy before any of them gives it the final name."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    together, keep = threading.Barrier(6), released.keep_first

    def wait(*arguments: Any) -> None:
        together.wait(60)
        keep(*arguments)

    monkeypatch.setattr(released, "keep_first", wait)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: released.find("released", whole), range(6)))
    assert {str(folder) for folder in found} == {str(whole / "released" / "cnn")}
    assert {path.name for path in found[0].iterdir()} == set(FILES)
    assert list((whole / "released").glob(".cnn*")) == []


def test_unsound_folder_gives_way_and_a_sound_one_stays(tmp_path: Path) -> None:
    (tmp_path / "aside").mkdir()

    def place(content: str, sound: bool) -> str:
        made = tmp_path / "aside" / "made"
        made.mkdir()
        (made / "file").write_text(content)
        released.keep_first(made, tmp_path / "final", lambda: sound)
        shutil.rmtree(tmp_path / "aside")
        (tmp_path / "aside").mkdir()
        return (tmp_path / "final" / "file").read_text()

    assert place("first", False) == "first"
    assert place("second", True) == "first"
    assert place("third", False) == "third"
