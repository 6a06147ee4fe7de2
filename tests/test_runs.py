"""Laws of the training run: one execution is one run, whoever made it and however often it was interrupted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, ModelMaker
from overtone.settings import Params
from overtone.tracking import entries, evaluations, runs, store, transfer
from overtone.tracking.store import TrackingError


def all_runs() -> list[Any]:
    client = store.client()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments))


def points(run_id: str, name: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in store.client().get_metric_history(run_id, name))


def test_address_of_the_store_is_taken_from_the_root_and_shown_without_secret_and_machine(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare_project / "deep").mkdir()
    monkeypatch.chdir(bare_project / "deep")
    own = f"sqlite:///{bare_project}"
    for uri, full, shown in (
        ("", f"{own}/mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite:///tracking/other.db?timeout=9", f"{own}/tracking/other.db?timeout=9", "sqlite:///tracking/other.db"),
        ("sqlite:////elsewhere/other.db", "sqlite:////elsewhere/other.db", "sqlite:////elsewhere/other.db"),
        ("https://ada:secret@mlflow.example/b", "https://mlflow.example/b", "https://mlflow.example/b"),
        (secret := "postgresql://ada:secret@db/mlflow?password=secret", secret, "postgresql://db/mlflow"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert (store.tracking_uri(), store.public_uri()) == (full, shown)


def test_new_run_says_what_it_is(project: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data.dvc").write_text(f"outs:\n- md5: {'ab' * 16}.dir\n  path: data\n")
    monkeypatch.setenv("DVC_STAGE", "train@rnn")
    monkeypatch.setenv("DVC_EXP_NAME", "brave-owl")
    with runs.TrainingRun("rnn", params) as run:
        summary = run.summary()
    (found,) = all_runs()
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "rnn (brave-owl)"
    assert found.data.tags["overtone.system"] == "rnn" and found.data.tags["overtone.kind"] == "training"
    assert found.data.params["train.rnn.extend.width"] == "16"
    assert found.data.params["corpus.rate"] == "48000"
    assert not any(key.startswith(("train.cnn.", "evaluate.", "register.")) for key in found.data.params)
    assert found.data.tags["dvc_stage"] == "train@rnn"
    (used,) = found.inputs.dataset_inputs
    assert used.dataset.digest == f"{'ab' * 16}.dir"
    assert used.tags[0].value == "training"
    assert summary["run_id"] == found.info.run_id
    assert summary["tracking_uri"] == "sqlite:///mlflow.db"
    assert (summary["commit"], summary["dirty"], summary["model"]) == (None, None, "rnn")
    assert summary["data_digest"] == f"{'ab' * 16}.dir"
    assert summary["settings"]["train.rnn.extend.width"] == 16
    assert not any(key.startswith("train.cnn.") for key in summary["settings"])
    assert summary["environment"]["torch"] == found.data.tags["environment.torch"]
    assert str(project) not in json.dumps(found.data.tags)


def test_adopted_run_is_the_only_run(project: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    client = store.client()
    given = client.create_run("0", run_name="bold-fox-12").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with runs.TrainingRun("rnn", params, resume="f" * 32) as run:
        assert run.run_id == given
    (found,) = all_runs()
    assert found.info.run_name == "rnn"
    assert found.info.experiment_id == "0"
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    with pytest.raises(TrackingError, match=r"MLFLOW_RUN_ID: sqlite:///mlflow\.db has no run 'f+'"):
        runs.TrainingRun("rnn", params).__enter__()


def _interrupted(run: runs.TrainingRun) -> None:
    logger = run.logger()
    assert logger
    logger.log_metrics({"valid_lsd": 1.5}, step=50)
    raise KeyboardInterrupt


def test_resumed_run_keeps_its_id_and_curve(project: Path, params: Params) -> None:
    with pytest.raises(KeyboardInterrupt), runs.TrainingRun("rnn", params) as first:
        _interrupted(first)
    assert all_runs()[0].info.status == "KILLED"
    longer = params.model_copy(
        update={
            "train": params.train.model_copy(update={"extend": params.train.extend.model_copy(update={"steps": 9})})
        }
    )
    with runs.TrainingRun("rnn", longer, resume=first.run_id) as second:
        logger = second.logger()
        assert logger
        logger.log_metrics({"valid_lsd": 1.25}, step=100)
        assert store.client().get_run(second.run_id).info.status == "RUNNING"
    (found,) = all_runs()
    assert found.info.run_id == first.run_id
    assert found.info.status == "FINISHED"
    assert points(first.run_id, "valid_lsd") == [(50, 1.5), (100, 1.25)]
    assert found.data.tags["changed.train.extend.steps"] == "9"


def test_nested_run_joins_its_parents_experiment(
    project: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store.client()
    parent = client.create_run(client.create_experiment("elsewhere")).info
    monkeypatch.setenv("OVERTONE_PARENT_RUN_ID", parent.run_id)
    with runs.TrainingRun("rnn", params) as run:
        pass
    child = client.get_run(run.run_id)
    assert child.data.tags["mlflow.parentRunId"] == parent.run_id
    assert child.info.experiment_id == parent.experiment_id


def test_status_tells_how_the_training_ended(project: Path, params: Params) -> None:
    """And a run that this store never had is not resumed."""
    for error, status in (
        (ValueError("bad"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(1), "KILLED"),
        (SystemExit(0), "FINISHED"),
    ):
        run = runs.TrainingRun("rnn", params, resume="f" * 32)
        with pytest.raises(type(error)), run:
            raise error
        assert run.run_id != "f" * 32
        assert store.client().get_run(run.run_id).info.status == status


def test_only_the_first_rank_records(project: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with runs.TrainingRun("rnn", params) as run:
        assert run.run_id == ""
        assert run.logger() is False
    assert all_runs() == []


def test_evaluation_goes_to_the_training_run(project: Path, params: Params, make_model: ModelMaker) -> None:
    with runs.TrainingRun("rnn", params) as run:
        pass
    folder = make_model(run_id=run.run_id)
    report = project / "reports" / "rnn"
    (report / "audio").mkdir(parents=True)
    (report / "audio" / "sinc_8k-a-before.flac").write_bytes(b"fLaC")
    (report / "summary.json").write_text('{"overall": {"lsd": 1.0}}')
    tree = {"test_set": "abc", "sinc 8k!": {"all": {"lsd": 1.5, "snr": None, "lsd_hf": float("nan")}}}
    assert evaluations.log(folder, tree, report) == run.run_id
    assert json.loads((report / "summary.json").read_text()) == {"overall": {"lsd": 1.0}, "run": run.run_id}
    (found,) = all_runs()
    assert found.data.metrics == {"test/sinc 8k_.all.lsd": 1.5, "conditions/lsd.all": 1.5}
    assert found.data.tags["test_set"] == "abc"
    (audio,) = store.client().list_artifacts(run.run_id, "evaluation/audio")
    assert audio.path == "evaluation/audio/sinc_8k-a-before.flac"
    assert (project / "mlruns" / "overtone" / run.run_id / "artifacts" / audio.path).is_file()


def test_unusable_run_file_is_named(project: Path, make_model: ModelMaker) -> None:
    path = make_model() / "run.json"
    for content in ("{", "[]", '{"run_id": ""}', None):
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(TrackingError, match=r"run\.json"):
            transfer.open_run(path.parent)


def test_deleted_experiment_is_explained(project: Path, params: Params) -> None:
    client = store.client()
    client.delete_experiment(client.create_experiment("overtone"))
    with pytest.raises(TrackingError, match="was deleted"):
        runs.TrainingRun("rnn", params).__enter__()


@pytest.mark.long
def test_two_first_users_make_one_quiet_store(bare_project: Path, environment: dict[str, str]) -> None:
    code = "from overtone.tracking import store; print(store.experiment_id(store.client()))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=bare_project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    (first, noise), (second, more) = (process.communicate(timeout=120) for process in started)
    assert [process.returncode for process in started] == [0, 0], noise + more
    assert first == second
    assert noise + more == ""


# --- MLproject --------------------------------------------------------------------------------------------------------

LOOKS = """
import json, os, sys
from pathlib import Path
names = ("MLFLOW_RUN_ID", "OVERTONE_PARENT_RUN_ID")
Path("called.json").write_text(json.dumps([sys.argv[1:], *(os.environ.get(name) for name in names)]))
"""


@pytest.mark.slow
def test_mlflow_run_of_the_pipeline_nests_its_trainings(project: Path, environment: dict[str, str]) -> None:
    """Here `dvc` is a script that leaves what it saw."""
    for name in ("MLproject", "python_env.yaml"):
        shutil.copyfile(ROOT / name, project / name)
    stand_in = project / "bin" / "dvc"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!{sys.executable}\n{LOOKS}")
    stand_in.chmod(0o755)
    own = environment | {"PATH": f"{stand_in.parent}{os.pathsep}{environment['PATH']}"}
    command = ["mlflow", "run", ".", "--env-manager", "local"]
    subprocess.run(command, cwd=project, env=own, capture_output=True, timeout=120, check=True)
    (parent,) = all_runs()
    assert json.loads((project / "called.json").read_text()) == [["repro"], None, parent.info.run_id]


@pytest.mark.usefixtures("project")
def test_trainings_that_begin_together_both_name_the_data() -> None:
    """MLflow looks for the data's entry before it makes one; here two have looked before either makes it."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    both, looked = threading.Barrier(2), threading.local()

    def wait(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM datasets" in statement and not hasattr(looked, "once"):
            looked.once = True
            both.wait(60)

    def begin(_: int) -> str:
        run = client.create_run(experiment)
        named = {"name": "data", "digest": "d1ce", "tags": {"folder": "data"}}
        entries.log_dataset(client, run.info.run_id, named)
        return str(run.info.run_id)

    client: Any = store.client()
    experiment = store.experiment_id(client)
    event.listen(Engine, "after_cursor_execute", wait)
    try:
        with ThreadPoolExecutor(2) as pool:
            ids = list(pool.map(begin, range(2)))
    finally:
        event.remove(Engine, "after_cursor_execute", wait)
    named = [client.get_run(run_id).inputs.dataset_inputs for run_id in ids]
    assert [[entry.dataset.name for entry in entries] for entries in named] == [["data"], ["data"]]
