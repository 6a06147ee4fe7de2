"""Laws of the record on a whole pipeline, by real commands: a version is made again, mended, and found wherever it lies."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from faults.harness import copy
from overtone import audio
from test_pipeline import GIT, Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.long]


def attempt(
    pipeline: Pipeline, *command: str, folder: Path | None = None, store: str = ""
) -> subprocess.CompletedProcess[str]:
    """A command that may fail, against another store or in another folder."""
    own = pipeline.environment | ({"MLFLOW_TRACKING_URI": store} if store else {})
    return subprocess.run(
        command, cwd=folder or pipeline.folder, env=own, capture_output=True, text=True, timeout=600, check=False
    )


def moved_to(pipeline: Pipeline, folder: Path) -> Pipeline:
    return Pipeline(folder, pipeline.environment | {"PYTHONPATH": str(folder / "src")})


@pytest.fixture(scope="module")
def registered(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Pipeline:
    """A project without git's history, whose champion is registered in its own store; to be copied."""
    made = copy(pipeline, tmp_path_factory.mktemp("registered") / "one", empty_store, "models", "reports")
    made.run("overtone", "stage", "register")
    made.run("overtone", "promote", "challenger")
    shutil.rmtree(made.folder / ".dvc" / "cache")
    audio.write(made.folder / "in.wav", np.full((1, 4_000), 0.1, np.float32), 8_000)
    return made


@pytest.fixture
def mine(registered: Pipeline, tmp_path: Path) -> Pipeline:
    shutil.copytree(registered.folder, tmp_path / "one", symlinks=True)
    return moved_to(registered, tmp_path / "one")


# --- made again ---------------------------------------------------------------------------------------------------------


def test_champion_trained_while_somebody_committed_is_reproduced_to_the_last_bit(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path
) -> None:
    mine = copy(pipeline, tmp_path / "project", empty_store, "work", "models", "reports")
    mine.set(train__extend__learning_rate=0.003)
    mine.run(*GIT, "commit", "-qam", "the settings of the training")
    commit = mine.run("git", "rev-parse", "HEAD").strip()
    command = ["overtone", "stage", "train", "--model", "rnn"]
    training = subprocess.Popen(command, cwd=mine.folder, env=mine.environment)
    while not list((mine.folder / ".overtone").glob("runs/*.jsonl")):
        assert training.poll() is None
        time.sleep(0.01)
    training.send_signal(signal.SIGSTOP)
    mine.set(train__extend__learning_rate=0.0001)
    mine.run(*GIT, "commit", "-qam", "meanwhile")
    training.send_signal(signal.SIGCONT)
    assert training.wait(600) == 0
    mine.run("overtone", "stage", "evaluate", "--system", "rnn")
    # The other network is out of the way.
    other = mine.folder / "reports" / "cnn" / "metrics.json"
    scores = json.loads(other.read_text())
    scores["overall"]["all"]["lsd"] = 9.0
    other.write_text(json.dumps(scores))
    mine.run("overtone", "stage", "register")
    mine.run("overtone", "promote", "challenger")
    outcome = json.loads(mine.run("overtone", "reproduce", "champion", "--json"))
    assert (outcome["model"], outcome["commit"]) == ("rnn", commit)
    assert (outcome["largest"], outcome["weights"], outcome["test_set"]) == (0.0, True, True)
    assert mine.run("git", "worktree", "list").count("\n") == 1


# --- mended -------------------------------------------------------------------------------------------------------------


def test_package_whose_files_are_gone_is_put_back_and_serves(mine: Pipeline) -> None:
    shutil.rmtree(mine.folder / "mlruns")
    refused = attempt(mine, "overtone", "enhance", "in.wav", "out.wav")
    assert refused.returncode == 1
    (command,) = re.findall(r"`(overtone repair \d+)`", refused.stderr)
    mine.run(*command.split())
    mine.run("overtone", "enhance", "in.wav", "out.wav")
    assert audio.probe(mine.folder / "out.wav").rate == 48_000
    code = (
        "import mlflow.pyfunc, pandas; from pathlib import Path;"
        "mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        "model = mlflow.pyfunc.load_model('models:/overtone@champion');"
        "print(len(model.predict(pandas.DataFrame({'audio': [Path('in.wav').read_bytes()]}))['audio'][0]))"
    )
    assert int(mine.run("python", "-c", code).split()[-1]) > 24_000


def test_working_tree_of_git_is_clean_after_all_that_users_do(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path
) -> None:
    mine = copy(pipeline, tmp_path / "project", empty_store, "work", "models", "reports")
    mine.run("git", "add", "-A")
    mine.run(*GIT, "commit", "-qm", "what dvc repro has made")
    audio.write(tmp_path / "in.wav", np.full((1, 4_000), 0.1, np.float32), 8_000)
    mine.run("overtone", "stage", "register")
    mine.run("overtone", "promote", "challenger")
    mine.run("dvc", "push", "-q")
    mine.run("overtone", "enhance", str(tmp_path / "in.wav"), str(tmp_path / "out.wav"))
    assert mine.run("git", "status", "--porcelain") == ""


# --- wherever it lies ---------------------------------------------------------------------------------------------------


def test_project_in_a_larger_repository_has_one_store(pipeline: Pipeline, registered: Pipeline, tmp_path: Path) -> None:
    large = tmp_path / "big"
    folder = large / "ml" / "voice"
    shutil.copytree(registered.folder, folder, symlinks=True)
    shutil.rmtree(folder / ".git")
    subprocess.run(["git", "init", "-q", str(large)], check=True)
    voice = moved_to(registered, folder)
    voice.run("overtone", "stage", "register")
    assert "version 1 (challenger, champion)" in " ".join(voice.run("overtone", "models").split())
    assert {path.name for path in large.iterdir()} == {".git", "ml"}
