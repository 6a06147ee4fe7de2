"""Laws of `overtone init`: a project around one's own recordings, in which `dvc repro` runs; nothing of theirs is touched."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from overtone import settings as params
from overtone.errors import OvertoneError
from overtone.settings import scaffold
from test_pipeline import EVERY_STAGE, edit, make_data, ran

# Everything as small as it goes.
SMALL: dict[str, Any] = {
    "corpus.min_seconds": 0.5,
    "corpus.clip_seconds": 2.0,
    "corpus.min_bandwidth_hz": 12_000,
    "corpus.valid_share": 0.2,
    "corpus.test_share": 0.2,
    "train.extend.steps": 4,
    "train.extend.batch": 4,
    "train.extend.frames": 60,
    "train.restore.steps": 4,
    "train.restore.batch": 2,
    "train.restore.seconds": 0.5,
    "train.fit.epoch_steps": 2,
    "train.fit.warmup_steps": 1,
    "train.fit.accelerator": "cpu",
    "evaluate.figures": 1,
    "evaluate.visqol": [],
}


@pytest.fixture(autouse=True)
def elsewhere(bare_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of no project, and of no git user."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_project_has_settings_that_load_stages_without_source_files_and_a_commit(tmp_path: Path) -> None:
    place = scaffold.create(tmp_path / "new")
    loaded = params.load(tmp_path / "new" / "params.yaml")
    assert (str(loaded.corpus.path), place) == ("data", tmp_path / "new" / "data")
    assert not any(getattr(loaded.corpus.assign, split) for split in ("train", "valid", "test"))
    ours, theirs = (yaml.safe_load((root / "dvc.yaml").read_text())["stages"] for root in (ROOT, tmp_path / "new"))
    assert list(theirs) == list(ours)
    text = (tmp_path / "new" / "dvc.yaml").read_text()
    assert "src/" not in text and "docs/" not in text
    for stage in theirs.values():
        deps = stage.get("do", stage)["deps"]
        assert len(deps) == len(set(deps))
        assert "${item.model}" in deps or scaffold.VERSION in deps
    assert git(tmp_path / "new", "status", "--porcelain") == ""
    assert git(tmp_path / "new", "log", "--format=%s") == "A new Overtone project\n"


def test_dvc_accepts_the_stages(tmp_path: Path) -> None:
    scaffold.create(tmp_path / "new")
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=tmp_path / "new",
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == EVERY_STAGE


@pytest.mark.parametrize("name", ["interviews", "deep/er", "with space", "it's"])
def test_recordings_may_lie_anywhere_and_are_left_alone(tmp_path: Path, name: str) -> None:
    inside, outside = tmp_path / "new" / name, tmp_path / name
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        (folder / "a.wav").write_bytes(b"x")
    assert scaffold.create(tmp_path / "new", inside) == tmp_path / "new" / name
    assert str(params.load(tmp_path / "new" / "params.yaml").corpus.path) == name
    assert git(tmp_path / "new", "ls-files", "--", name) == "", "recordings are not for git"
    assert scaffold.create(tmp_path / "other", outside) == outside
    assert params.load(tmp_path / "other" / "params.yaml").corpus.path == outside
    assert [path.read_bytes() for path in (inside / "a.wav", outside / "a.wav")] == [b"x", b"x"]


def test_recordings_in_the_folder_are_found(tmp_path: Path) -> None:
    (tmp_path / "new" / "takes" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "takes" / "deep" / "a.flac").write_bytes(b"x")
    assert scaffold.create(tmp_path / "new") == tmp_path / "new" / "takes"


def test_subfolder_of_a_repository_becomes_a_project_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    git(tmp_path / "big", "init", "-q")
    scaffold.create(tmp_path / "big" / "voice")
    assert not (tmp_path / "big" / "voice" / ".git").exists()
    assert (tmp_path / "big" / "voice" / ".dvc").is_dir()


@pytest.mark.parametrize("name", [*scaffold.FILES, scaffold.VERSION])
def test_folder_with_a_project_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / name).write_text("mine")
    with pytest.raises(OvertoneError, match=re.escape(f"{name}: exists already")):
        scaffold.create(tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == [name]


def test_recordings_that_are_nowhere_or_everywhere_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(OvertoneError, match="nowhere: no such folder"):
        scaffold.create(tmp_path / "new", tmp_path / "nowhere")
    assert not (tmp_path / "new").exists()
    for name in ("a/a.wav", "b/b.wav"):
        (tmp_path / "two" / name).parent.mkdir(parents=True)
        (tmp_path / "two" / name).write_bytes(b"x")
    with pytest.raises(OvertoneError, match="name their folder with --recordings"):
        scaffold.create(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["a", "b"]


@pytest.mark.slow
@pytest.mark.long
def test_pipeline_runs_in_a_new_project(tmp_path: Path, environment: dict[str, str]) -> None:
    make_data(tmp_path / "recordings")
    command = [sys.executable, "-m", "overtone", "init", "new", "--recordings", "recordings"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    edit(tmp_path / "new" / "params.yaml", SMALL)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=tmp_path / "new", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert ran(done.stdout) == EVERY_STAGE
    assert (tmp_path / "new" / "reports" / "index.html").is_file()
