"""Laws of runs in another store: a model's whole run is brought there, once; a run whose process is gone is ended."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import ModelMaker
from overtone import cli
from overtone.settings import Params
from overtone.tracking import evaluations, journal, runs, store, sync, transfer

METRICS = {"test_set": "set-a", "overall": {"all": {"lsd": 1.25}}, "sinc_8k": {"all": {"lsd": 1.5}}}


@pytest.fixture
def trained(project: Path, params: Params, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a trained and scored model, whose store is then another one: a team's, as if stages were cached."""
    with runs.TrainingRun("rnn", params) as run:
        logger = run.logger()
        assert logger
        for step, value in ((50, 2.0), (100, 1.5)):
            logger.log_metrics({"valid_lsd": value}, step=step)
    folder = make_model("rnn", **run.summary())
    report = project / "reports" / "rnn"
    (report / "figures").mkdir(parents=True)
    (report / "figures" / "a.png").write_bytes(b"a picture")
    (report / "metrics.json").write_text(json.dumps(METRICS))
    evaluations.log(folder, METRICS, report)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///team.db")
    return folder


@pytest.fixture
def team(trained: Path, project: Path, empty_store: Path) -> Path:
    """As `trained`, the team's store empty."""
    shutil.copyfile(empty_store, project / "team.db")
    return trained


def only_run() -> Any:
    client = store.client()
    (found,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return found


def check_whole(run: Any, folder: Path) -> None:
    client, facts = store.client(), transfer.read_run(folder)
    assert run.data.tags[transfer.RESTORED_FROM] == facts["run_id"]
    assert transfer.RESTORED not in run.data.tags
    assert (run.info.status, run.info.run_name, run.data.tags["overtone.system"]) == ("FINISHED", "rnn", "rnn")
    assert run.data.params["train.rnn.extend.width"] == "16"
    points = client.get_metric_history(run.info.run_id, "valid_lsd")
    assert sorted((point.step, point.value) for point in points) == [(50, 2.0), (100, 1.5)]
    assert run.data.metrics["test/overall.all.lsd"] == 1.25
    assert run.data.tags["test_set"] == "set-a"
    assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["data"]
    assert [item.path for item in client.list_artifacts(run.info.run_id, "evaluation/figures")] == [
        "evaluation/figures/a.png"
    ]


def test_run_is_copied_whole_from_the_projects_own_store(team: Path) -> None:
    known = transfer.open_run(team)
    check_whole(only_run(), team)
    assert transfer.open_run(team) == known == only_run().info.run_id


def test_copy_that_was_interrupted_is_completed(team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_artifacts", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer.open_run(team)
    transfer.open_run(team)
    check_whole(only_run(), team)


def test_bare_run_of_before_is_made_whole(team: Path) -> None:
    client = store.client()
    tags = {transfer.RESTORED: "true", transfer.RESTORED_FROM: str(transfer.read_run(team)["run_id"])}
    client.create_run(store.experiment_id(client), tags=tags)
    transfer.open_run(team)
    check_whole(only_run(), team)


def test_sync_brings_models_runs_and_what_they_scored(team: Path, project: Path) -> None:
    """Without the first store: from the files."""
    (project / "mlflow.db").unlink()
    result = CliRunner().invoke(cli.app, ["sync"])
    assert result.exit_code == 0, result.output
    run = only_run()
    assert run.data.tags[transfer.RESTORED] == "true"
    assert run.data.params["train.rnn.extend.width"] == "16"
    assert run.data.tags["environment.python"]
    assert run.data.metrics["test/overall.all.lsd"] == 1.25
    assert run.data.metrics["extend_valid_lsd"] == 1.25
    assert run.inputs.dataset_inputs
    assert "whole in sqlite:///team.db" in result.output
    before = len(store.client().get_metric_history(run.info.run_id, "test/overall.all.lsd"))
    sync.sync()
    assert len(store.client().get_metric_history(run.info.run_id, "test/overall.all.lsd")) == before == 1


# --- processes that are gone --------------------------------------------------------------------------------------------

TRAINS = """
import os, signal
from pathlib import Path
from overtone import settings as params
from overtone.tracking.runs import TrainingRun
with TrainingRun("rnn", params.load(Path("params.yaml"))) as run:
    print(run.run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_run_of_a_killed_process_is_ended_by_the_next_command(project: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINS], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    run_id = done.stdout.split()[-1]
    assert store.client().get_run(run_id).info.status == "RUNNING"
    assert CliRunner().invoke(cli.app, ["models"]).exit_code == 0
    found = store.client().get_run(run_id)
    assert found.info.status == "KILLED"
    assert "process was gone" in found.data.tags[journal.REASON]
    assert journal.end_orphans() == []


def test_run_that_is_being_recorded_and_those_of_other_machines_are_left_alone(
    project: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runs.TrainingRun("rnn", params) as run:
        assert journal.end_orphans() == []
        assert store.client().get_run(run.run_id).info.status == "RUNNING"
    begun = {"store": "elsewhere", "host": "another-machine"}
    with journal.Journal("e" * 32, begun) as book:
        book.append("points", points=[("a", 1.0, 1, 1)])
    assert journal.end_orphans() == []
    assert "status" not in book.path.read_text()
