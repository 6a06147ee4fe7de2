"""Laws of the released models: made when first wanted, checked, at hand, and the answer where there is no champion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import ROOT, ModelMaker
from overtone import cli
from overtone.registry import fetch, released, resolve
from overtone.registry.released import ReleasedError
from overtone.tracking import dvc, store

FILES = ("weights.safetensors", "config.json")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A clone whose DVC remote, a folder of its own, holds two released models."""
    clone = tmp_path / "clone"
    (clone / "released").mkdir(parents=True)

    def put(content: bytes, ending: str = "") -> str:
        (tmp_path / "object").write_bytes(content)
        digest = f"{dvc.file_md5(tmp_path / 'object')}{ending}"
        stored = released.stored(clone, digest)
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(content)
        return digest

    for kind in ("rnn", "cnn"):
        listing = [{"md5": put(f"{name} of the {kind}".encode()), "relpath": name} for name in sorted(FILES)]
        digest = put(json.dumps(listing, sort_keys=True).encode(), ".dir")
        released.pointer(clone, kind).write_text(f"outs:\n- md5: {digest}\n  path: {kind}\n")
    return clone


def local(folder: Path, kind: str = "cnn") -> None:
    """The pointer file of a released model that is there already, as far as can be seen."""
    (folder / "released").mkdir(exist_ok=True)
    (folder / "released" / f"{kind}.dvc").write_text("outs: []\n")


# --- the repository's own remote, and a built package -------------------------------------------------------------------


@pytest.mark.parametrize("name", released.NAMES)
def test_model_is_made_from_the_repository_and_no_other(whole: Path, name: str) -> None:
    folder, kind = released.find(name, whole), released.NAMES[name]
    assert folder == whole / "released" / kind == released.find(name, whole)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        file: f"{file} of the {kind}" for file in FILES
    }
    assert sorted(path.name for path in (whole / "released").iterdir()) == sorted([kind, "cnn.dvc", "rnn.dvc"])


def test_project_without_released_models_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ReleasedError, match=r"\.dvc: no such file; released models come with a clone of the project"):
        released.fetch("released", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_model_that_the_repository_does_not_hold_is_to_be_pulled(whole: Path) -> None:
    made = released.find("released", whole)
    shutil.rmtree(whole / "dvcstore")
    assert released.find("released", whole) == made, "as DVC pulled it from elsewhere"
    (made / "config.json").write_text("changed")
    with pytest.raises(ReleasedError, match="remove the folder and pull again"):
        released.find("released", whole)
    shutil.rmtree(made)
    with pytest.raises(ReleasedError, match=r"does not hold what it names; `dvc pull released/cnn\.dvc` fetches it"):
        released.find("released", whole)


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
            path.write_text(path.read_text() + " ")
    with pytest.raises(ReleasedError):
        released.find("released", whole)
    assert not (whole / "released" / "cnn").exists()
    assert list((whole / "released").glob(".cnn.*")) == []


def test_package_carries_its_models_and_a_project_may_have_its_own(
    whole: Path, tmp_path: Path, bare_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "weights"
    for kind in released.KINDS:
        listing = released.unpack(whole, kind, packed / kind)
        (packed / f"{kind}.json").write_text(json.dumps(listing))
    shutil.rmtree(whole)
    monkeypatch.setattr(released, "PACKED", packed)
    monkeypatch.setattr(released, "_CLONE", tmp_path / "nowhere")
    for name, kind in released.NAMES.items():
        assert released.find(name, bare_project) == packed / kind
    local(bare_project)
    shutil.copytree(packed / "rnn", bare_project / "released" / "cnn")
    assert released.find("released", bare_project) == bare_project / "released" / "cnn"
    assert released.find("released-rnn", bare_project) == packed / "rnn"
    (packed / "rnn" / "config.json").write_text("changed")
    with pytest.raises(ReleasedError, match="not the file that was released"):
        released.find("released-rnn", bare_project)


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
