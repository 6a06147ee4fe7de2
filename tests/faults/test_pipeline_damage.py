"""Damaged files: found by their digest, named, and mended by the command that the error names.

Named so that it shares the finished pipeline of `test_pipeline`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT
from faults.harness import Ledger, copy, refused, started, tree
from test_pipeline import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.faults]
TRAIN = ("overtone", "stage", "train", "--model", "rnn")


def damage(path: Path) -> None:
    """Change one bit in the middle; length and permissions stay."""
    content, mode = bytearray(path.read_bytes()), path.stat().st_mode
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


def interrupted(pipeline: Pipeline, *present: str) -> Path:
    """The checkpoints of a training that was killed as soon as it had these."""
    with started(pipeline, *TRAIN) as process:
        while process.poll() is None:
            for folder in (pipeline.folder / "checkpoints").glob("rnn-*/*"):
                if all((folder / name).is_file() for name in present):
                    return folder
            time.sleep(0.002)
    pytest.fail("the training ended before it was interrupted")


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_damaged_checkpoint_is_named_and_the_training_ends_as_an_undisturbed_one(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger], name: str
) -> None:
    record = ledger(f"damaged {name}")
    mine = copy(pipeline, tmp_path / "project", empty_store, "work")
    folder = interrupted(mine, "last.ckpt", "before.ckpt" if name == "last.ckpt" else "best.ckpt")
    damage(folder / name)
    record.tried()
    if name == "last.ckpt":
        assert f"{Path(*folder.parts[-2:]) / name}: damaged" in mine.run(*TRAIN)
    else:
        said = refused(mine, *TRAIN)
        assert f"{name}: damaged" in said
        (command,) = re.findall(r"rm -r (\S+)$", said)
        mine.run("rm", "-r", command)
        mine.run(*TRAIN)
    record.same(tree(mine.folder / "models/rnn", "run.json"), tree(pipeline.folder / "models/rnn", "run.json"))
    record.survived()


def test_damaged_registered_artifact_is_refused_and_a_sound_one_fetched_by_the_command_named(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("damaged registered artifact")
    mine = copy(pipeline, tmp_path / "project", empty_store, "work", "models", "reports")
    mine.run("overtone", "stage", "register")
    mine.run("overtone", "promote", "challenger")
    (stored,) = (mine.folder / "mlruns").rglob("artifacts/model/weights.safetensors")
    damage(stored)
    record.tried()
    said = refused(mine, "overtone", "fetch", "champion", "fetched")
    assert "not those that were registered" in said
    assert not (mine.folder / "fetched").exists()
    (source,) = re.findall(r"`(overtone repair [^`]+)`", said)
    mine.run(*source.split())
    mine.run("overtone", "fetch", "champion", "fetched")
    model = mine.rows("select value from model_version_tags where key = 'model'")[0][0]
    record.same(
        {"weights": (mine.folder / "fetched/weights.safetensors").read_bytes()},
        {"weights": (pipeline.folder / "models" / model / "weights.safetensors").read_bytes()},
    )
    record.survived()


def test_damaged_cache_object_is_found_named_and_made_again(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("damaged object of the DVC cache")
    mine = copy(pipeline, tmp_path / "project", empty_store)
    weights = (pipeline.folder / "models/rnn/weights.safetensors").read_bytes()
    digest = hashlib.md5(weights, usedforsecurity=False).hexdigest()
    stored = mine.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    mine.run("dvc", "checkout", "work/corpus", "work/pairs")
    assert "objects are what they are named by" in mine.run("overtone", "verify")
    damage(stored)
    # DVC copies it as it is.
    mine.run("dvc", "checkout", "--force", "models/rnn")
    found = mine.folder / "models/rnn/weights.safetensors"
    record.tried()
    done = subprocess.run(
        ["overtone", "verify"], cwd=mine.folder, env=mine.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert f"{stored}: damaged (models/rnn/weights.safetensors)\n1 of " in done.stdout
    (command,) = re.findall(r"`(overtone verify --remove)`", done.stdout)
    subprocess.run(command.split(), cwd=mine.folder, env=mine.environment, capture_output=True, check=False)
    assert not stored.exists() and not found.exists()
    (again,) = re.findall(r"then `(dvc repro)`", done.stdout)
    mine.run(*again.split(), "--single-item", "train@rnn")
    record.same({"weights": found.read_bytes()}, {"weights": weights})
    assert "objects are what they are named by" in mine.run("overtone", "verify")
    record.survived()


def test_damaged_released_model_is_named_and_made_again_by_the_command_named(
    tmp_path: Path, environment: dict[str, str], ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("damaged released model")
    for name in ("released", "dvcstore"):
        shutil.copytree(ROOT / name, tmp_path / name)
    mine = Pipeline(tmp_path, environment | {"DVC_ROOT": str(tmp_path)})
    fetch = ("overtone", "fetch", "released", "out")
    mine.run(*fetch)
    whole = tree(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    damage(tmp_path / "released/cnn/weights.safetensors")
    record.tried()
    said = refused(mine, *fetch)
    assert "weights.safetensors: not the file that was released" in said
    (folder,) = re.findall(r"remove (\S+) to have it made again", said)
    shutil.rmtree(folder)
    mine.run(*fetch)
    record.same(tree(tmp_path / "out"), whole)
    record.survived()
