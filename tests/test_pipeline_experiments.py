"""Laws of experiments, on the pipeline of `test_pipeline`: wherever DVC runs one, it is recorded at home, by its own name."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from test_pipeline import GIT, Pipeline, ran

pytestmark = [pytest.mark.slow, pytest.mark.long]

CUTOFFS = {"sweep-1": [4000], "sweep-2": [4000, 8000]}


@pytest.fixture(scope="module")
def home(pipeline: Pipeline) -> Iterator[Pipeline]:
    """The pipeline with its lock committed: experiments are beside a commit."""
    (pipeline.folder / ".git" / "info" / "exclude").write_text("/plots/\n/team.db\n/*.wav\n/*.flac\n")
    pipeline.run("git", "add", "-A")
    pipeline.run(*GIT, "commit", "-qm", "the first run", "--allow-empty")
    yield pipeline
    assert not list((pipeline.folder / ".dvc" / "tmp" / "exps").rglob("mlflow.db")), "a store in a copy is lost with it"


def runs_in(store: Path) -> dict[str, dict[str, Any]]:
    """Runs of an MLflow database: id -> name, status, tags and settings."""
    with closing(sqlite3.connect(store)) as database:
        found = {
            run: {"name": name, "status": status, "tags": {}, "params": {}, "home": place}
            for run, name, status, place in database.execute(
                "select run_uuid, r.name, status, artifact_location from runs r join experiments using (experiment_id)"
            )
        }
        for table in ("tags", "params"):
            for run, key, value in database.execute(f"select run_uuid, key, value from {table}"):
                found[run][table][key] = value
    return found


def committed(pipeline: Pipeline, experiment: str, name: str) -> bytes:
    """A file as an experiment's commit holds it."""
    refs = pipeline.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    (ref,) = [ref for ref in refs if ref.endswith(f"/{experiment}")]
    return pipeline.run("git", "show", f"{ref}:{name}").encode()


def run_ids(pipeline: Pipeline) -> dict[str, str]:
    return {kind: str(pipeline.json(f"models/{kind}/run.json")["run_id"]) for kind in ("cnn", "rnn")}


def registry(pipeline: Pipeline) -> tuple[list[Any], list[Any]]:
    """Versions and aliases."""
    return (
        pipeline.rows("select version, run_id from model_versions order by version"),
        pipeline.rows("select alias, version from registered_model_aliases order by alias"),
    )


def shown(pipeline: Pipeline, experiment: str) -> dict[str, Any]:
    """An experiment's metrics by file, as `dvc exp show` has them."""
    for baseline in json.loads(pipeline.run("dvc", "exp", "show", "--json")):
        for one in baseline["experiments"] or []:
            if one["name"] == experiment:
                return {path: found["data"] for path, found in one["revs"][0]["data"]["metrics"].items()}
    raise AssertionError(f"dvc exp show has no {experiment}")


def test_queued_sweep_over_lists_is_recorded_where_the_projects_env_file_says(
    home: Pipeline, empty_store: Path
) -> None:
    before, kept = runs_in(home.folder / "mlflow.db"), (home.folder / "params.yaml").read_text()
    head = home.run("git", "rev-parse", "HEAD").strip()
    shutil.copyfile(empty_store, home.folder / "team.db")
    (home.folder / ".env").write_text("MLFLOW_TRACKING_URI=sqlite:///team.db\nPATH=nowhere\n")
    sweep = (
        "-S",
        "train.extend.ranges.cutoffs=[4000],[4000,8000]",
        "-S",
        "train.extend.steps=6",
        "-n",
        "sweep",
        "train@rnn",
    )
    try:
        home.run("dvc", "exp", "run", "--queue", *sweep)
        assert (home.folder / "params.yaml").read_text() == kept
        home.run("dvc", "exp", "run", "--run-all")
    finally:
        (home.folder / ".env").unlink()
    assert runs_in(home.folder / "mlflow.db") == before
    found = {run["tags"]["dvc_exp_name"]: run for run in runs_in(home.folder / "team.db").values()}
    assert set(found) == set(CUTOFFS)
    for name, run in found.items():
        assert run["status"] == "FINISHED" and run["name"].endswith(f" ({name})")
        assert run["tags"]["dvc_exp_baseline_rev"] == run["tags"]["git_commit"] == head
        assert json.loads(run["params"]["train.extend.ranges.cutoffs"]) == CUTOFFS[name]
        assert run["home"] == (home.folder / "mlruns" / "overtone").as_uri()
        settings = committed(home, name, "params.yaml")
        assert run["tags"]["source.params.yaml"] == hashlib.sha256(settings).hexdigest()
        comments = re.findall(r"#.*", settings.decode())
        assert sorted(comments) == sorted(re.findall(r"#.*", kept)), "DVC writes lists anew and leaves comments"
        (patch,) = (home.folder / "mlruns").rglob(f"{run_of(home, name)}/artifacts/source/uncommitted.patch")
        assert re.search(rb"^\+ +- 4000$", patch.read_bytes(), re.MULTILINE)


def run_of(pipeline: Pipeline, experiment: str) -> str:
    (found,) = (
        run
        for run, facts in runs_in(pipeline.folder / "team.db").items()
        if facts["tags"].get("dvc_exp_name") == experiment
    )
    return found


def test_experiment_in_a_copy_is_recorded_at_home_and_registers_nothing(home: Pipeline) -> None:
    before, here, versions = set(runs_in(home.folder / "mlflow.db")), run_ids(home), registry(home)
    output = home.run("dvc", "exp", "run", "--temp", "-S", "train.rnn.extend.width=8", "-n", "elsewhere")
    assert ran(output) == {"train@rnn", "evaluate@rnn", "report", "register"}
    assert "experiment elsewhere: not registered" in output
    assert registry(home) == versions
    assert run_ids(home) == here, "the workspace stays as it was"
    found = runs_in(home.folder / "mlflow.db")
    (made,) = set(found) - before
    assert found[made]["tags"]["dvc_exp_name"] == "elsewhere"
    columns = shown(home, "elsewhere")
    assert columns["reports/rnn/summary.json"]["run"] == made
    assert columns["reports/cnn/summary.json"]["run"] == here["cnn"]
    header, *rows = home.run("dvc", "exp", "show", "--csv", "--drop", "^(?!Experiment|.*:run$)").splitlines()
    assert header == "Experiment,reports/cnn/summary.json:run,reports/rnn/summary.json:run"
    assert f"elsewhere,{here['cnn']},{made}" in rows


def test_applied_experiment_is_registered_once_and_an_older_state_brings_its_own_runs(home: Pipeline) -> None:
    before = run_ids(home)
    home.run("dvc", "exp", "apply", "elsewhere")
    applied = run_ids(home)
    assert applied["cnn"] == before["cnn"] and applied["rnn"] != before["rnn"]
    output = home.run("dvc", "repro")
    assert ran(output) == {"register"}
    (said,) = re.findall(r"^(\w+) -> overtone version (\d+)", output, re.MULTILINE)
    versions = registry(home)
    assert (int(said[1]), applied[said[0]]) in [(int(number), run) for number, run in versions[0]]
    home.run("git", "add", "-A")
    home.run(*GIT, "commit", "-qm", "the experiment")

    home.run("git", "checkout", "-q", "HEAD~1")
    home.run("dvc", "checkout", "-q")
    assert run_ids(home) == before
    assert "(known already)" in home.run("overtone", "stage", "register")
    assert registry(home)[0] == versions[0]
    assert "differs" not in home.run("overtone", "lineage", "challenger")

    home.run("git", "checkout", "-q", "-")
    home.run("dvc", "checkout", "-q")
    assert run_ids(home) == applied
    assert "(known already)" in home.run("overtone", "stage", "register")
    assert registry(home) == versions


def test_mlflow_run_of_a_search_is_the_studys_run_in_the_experiment_of_the_env_file(home: Pipeline) -> None:
    before = set(runs_in(home.folder / "mlflow.db"))
    space = 'tune.space.rnn={"train.rnn.extend.layers":{"type":"int","low":1,"high":2}}'
    settings = f"tune.steps=4 tune.epoch_steps=2 {space}"
    arguments = ("-P", "model=rnn", "-P", "trials=1", "-P", f"set={settings}", "--env-manager", "local")
    (home.folder / ".env").write_text("MLFLOW_EXPERIMENT_NAME=overtone\nMLFLOW_TRACKING_URI=sqlite:///mlflow.db\n")
    try:
        home.run("mlflow", "--env-file", ".env", "run", ".", "-e", "tune", *arguments)
    finally:
        (home.folder / ".env").unlink()
    found = {run: facts for run, facts in runs_in(home.folder / "mlflow.db").items() if run not in before}
    (study,) = (run for run, facts in found.items() if "tune.trial" not in facts["tags"])
    (trial,) = set(found) - {study}
    assert found[trial]["tags"]["mlflow.parentRunId"] == study
    assert found[study]["name"] == "tune overtone-rnn-extend"
    assert found[trial]["tags"]["tune.state"] == "complete"
    assert all(run["home"] == (home.folder / "mlruns" / "overtone").as_uri() for run in found.values())
