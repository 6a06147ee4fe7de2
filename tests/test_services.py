"""Laws of a team's deployment: real commands against the servers of docs/how-to/team-server.md, nothing stood in for."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import services
from conftest import ROOT, ModelMaker
from overtone import audio
from overtone.registry import fetch, packaging, register, registry, versions
from overtone.registry.register import Candidate
from overtone.tracking import store
from services import BUCKET, Team
from test_registry import GATE, light_log, scored
from test_serving import post, served, tone
from test_training import SMALL as TRAINED

pytestmark = [pytest.mark.slow, pytest.mark.services]

SMALL = (
    *TRAINED,
    *("train.extend.steps=8", "train.restore.steps=8", "train.fit.epoch_steps=2"),
    *("evaluate.figures=1", "evaluate.baselines=[]", "evaluate.visqol=[]", "register.guards=[]"),
)
OVERRIDES = tuple(word for override in SMALL for word in ("--set", override))


@dataclass(frozen=True)
class Workspace:
    """A member's project folder, and commands in it under a name."""

    folder: Path
    team: Team

    def environment(self, name: str = "ada", password: str | None = None) -> dict[str, str]:
        own = {"DVC_ROOT": str(self.folder)}
        return self.team.member(name, password) | own

    def run(self, *command: str, name: str = "ada", password: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(name, password),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def output(self, *command: str, name: str = "ada") -> str:
        """What a command prints that has to end well."""
        done = self.run(*command, name=name)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Team]:
    """The servers, or the reason why they cannot be had."""
    for name in ("psycopg", "boto3", "flask_wtf"):
        pytest.importorskip(name, reason=f"{name} is missing: pip install -e '.[services]'", exc_type=ImportError)
    try:
        with services.team(tmp_path_factory.mktemp("team"), environment) as team:
            yield team
    except services.Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def workspace(
    team: Team, tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path, pairs_folder: Path
) -> Workspace:
    """A project with a corpus and its pairs, whose small training was killed once and then ended."""
    # A name that addresses would read otherwise.
    folder = tmp_path_factory.mktemp("per%20cent")
    workspace = Workspace(folder, team)
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    shutil.copytree(corpus_folder, folder / "work" / "corpus")
    shutil.copytree(pairs_folder, folder / "work" / "pairs")
    command = ["overtone", "stage", "train", "--model", "rnn", *OVERRIDES]
    first = subprocess.Popen(
        command, cwd=folder, env=workspace.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert first.stdout is not None
    said = []
    for line in first.stdout:
        said.append(line)
        # The checkpoint of the epoch before this one is on disk for certain.
        if line.startswith("step 4/"):
            break
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert said[-1].startswith("step 4/"), "".join(said)
    assert "resuming run" in workspace.output(*command)
    return workspace


@pytest.fixture(scope="module")
def evaluated(workspace: Workspace) -> Workspace:
    """As `workspace`, its network scored."""
    workspace.output("overtone", "stage", "evaluate", "--system", "rnn", *OVERRIDES)
    return workspace


@pytest.fixture(scope="module")
def registered(evaluated: Workspace) -> Workspace:
    """As `evaluated`, its network the champion, before one that scored worse."""
    models, reports = evaluated.folder / "models", evaluated.folder / "reports"
    shutil.copytree(models / "rnn", models / "cnn")
    scores = evaluated.json("reports/rnn/metrics.json")
    scores["overall"]["all"]["lsd"] += 1
    (reports / "cnn").mkdir()
    (reports / "cnn" / "metrics.json").write_text(json.dumps(scores))
    shutil.copyfile(reports / "rnn" / "scores.csv", reports / "cnn" / "scores.csv")
    assert "rnn -> overtone version 1 (registered)" in evaluated.output("overtone", "stage", "register", *OVERRIDES)
    return evaluated


@pytest.fixture
def client(team: Team, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's client for the member who trains."""
    from mlflow import MlflowClient

    for name, value in team.member("ada").items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)
    return MlflowClient(team.uri, team.uri)


# --- training -----------------------------------------------------------------------------------------------------------


def test_killed_and_continued_training_is_one_finished_run_with_its_whole_curve(
    workspace: Workspace, client: Any
) -> None:
    experiment = client.get_experiment_by_name("overtone")
    (run,) = client.search_runs([experiment.experiment_id])
    facts = workspace.json("models/rnn/run.json")
    assert (facts["run_id"], facts["tracking_uri"]) == (run.info.run_id, workspace.team.uri)
    assert run.info.status == "FINISHED"
    curve = pd.read_csv(workspace.folder / "models" / "rnn" / "history.csv")
    for task, name in (("extend", "extend_valid_lsd"), ("restore", "restore_valid_gain_db")):
        assert run.data.params[f"train.{task}.steps"] == "8"
        own = curve[curve["task"] == task]
        assert list(own["step"]) == [2, 4, 6, 8]
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted({round(metric.value, 4) for metric in history}) == sorted({round(v, 4) for v in own[name]})
        assert len({metric.step for metric in history}) == 4
    assert not list((workspace.folder / "checkpoints").iterdir())


def test_runs_and_users_are_rows_of_postgresql(workspace: Workspace) -> None:
    import psycopg

    reach = workspace.team.postgres.environment
    address = f"host={reach['PGHOST']} port={reach['PGPORT']} user={reach['PGUSER']} password={reach['PGPASSWORD']}"
    with psycopg.connect(f"{address} dbname=mlflow") as database:
        assert database.execute("select status from runs").fetchall() == [("FINISHED",)]
    with psycopg.connect(f"{address} dbname=mlflow_auth") as database:
        assert {name for (name,) in database.execute("select username from users")} == set(services.USERS)
    with psycopg.connect(f"{address} dbname=optuna") as database:
        assert database.execute("select current_user").fetchone() == ("overtone",)


def test_evaluation_lies_in_the_object_store_and_nowhere_else(evaluated: Workspace) -> None:
    run = evaluated.json("models/rnn/run.json")["run_id"]
    report = evaluated.folder / "reports" / "rnn"
    written = {str(path.relative_to(report)): path.stat().st_size for path in report.rglob("*") if path.is_file()}
    stored = {
        key.partition("/artifacts/evaluation/")[2]: size
        for key, size in evaluated.team.objects.objects("mlflow/").items()
        if f"/{run}/artifacts/evaluation/" in key
    }
    assert stored == written
    assert {Path(name).suffix for name in stored} >= {".png", ".flac", ".json"}
    assert not [name for name in ("mlruns", "mlartifacts", "mlflow.db") if (evaluated.folder / name).exists()]


# --- tuning -------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_study_on_postgresql_is_one_run_with_its_trials_beneath(
    team: Team, tmp_path: Path, corpus_folder: Path, client: Any
) -> None:
    """Two workers; and a second call that goes on with what the database has."""
    import psycopg

    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    shutil.copytree(corpus_folder, tmp_path / "work" / "corpus")
    tuner, reach = Workspace(tmp_path, team), team.postgres.environment
    place = f"{reach['PGHOST']}:{reach['PGPORT']}/optuna"
    space = "tune.space.rnn={train.extend.learning_rate: {type: float, low: 0.0001, high: 0.05, log: true}}"
    short = ("--set", "tune.steps=4", "--set", "tune.epoch_steps=2", "--set", space)
    command = ("overtone", "tune", "--model", "rnn", "--workers", "2", "--dry-run", *OVERRIDES, *short)
    command += ("--storage", f"postgresql+psycopg://{reach['PGUSER']}:{reach['PGPASSWORD']}@{place}")
    said = tuner.output(*command, "--trials", "3") + tuner.output(*command, "--trials", "1")
    assert reach["PGPASSWORD"] not in said
    experiment = client.get_experiment_by_name("overtone")
    (study,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'tune overtone-rnn-extend'")
    beneath = f"tags.mlflow.parentRunId = '{study.info.run_id}'"
    trials = client.search_runs([experiment.experiment_id], beneath)
    assert len(trials) == 4
    assert {trial.info.status for trial in trials} == {"FINISHED"}
    assert not (tmp_path / "optuna.db").exists()
    address = f"host={reach['PGHOST']} port={reach['PGPORT']} user={reach['PGUSER']} password={reach['PGPASSWORD']}"
    with psycopg.connect(f"{address} dbname=optuna") as database:
        assert database.execute("select count(*) from trials where state in ('COMPLETE', 'PRUNED')").fetchone() == (4,)


@pytest.mark.long
def test_calls_that_make_the_tables_of_a_new_postgresql_together_all_open_it(team: Team) -> None:
    import psycopg

    from overtone import settings
    from overtone.tuning import plan, study

    reach = team.postgres.environment
    server = f"{reach['PGUSER']}:{reach['PGPASSWORD']}@{reach['PGHOST']}:{reach['PGPORT']}"
    with psycopg.connect(f"postgresql://{server}/optuna", autocommit=True) as database:
        database.execute("create schema beginners")
    place = f"postgresql+psycopg://{server}/optuna?options=-csearch_path%3Dbeginners"
    made = plan.plan(settings.load(ROOT / "params.yaml"), "rnn", Path("work/corpus"), 1, storage=place)
    together = threading.Barrier(4)

    def opened(_: int) -> int:
        together.wait(60)
        return len(study.storage(made).get_all_studies())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, range(4))) == [0] * 4


# --- the registry -------------------------------------------------------------------------------------------------------


def test_champion_is_listed_and_fetched_with_the_trained_weights(registered: Workspace) -> None:
    listed = registered.output("overtone", "models", name="bob")
    assert re.search(r"version 1 \(challenger, champion\): promoted: first champion", " ".join(listed.split())), listed
    registered.output("overtone", "fetch", "champion", "best", name="bob")
    fetched = sha256(registered.folder / "best" / "weights.safetensors")
    assert fetched == sha256(registered.folder / "models" / "rnn" / "weights.safetensors")
    assert [key for key in registered.team.objects.objects("mlflow/") if key.endswith("/model/weights.safetensors")]


@pytest.mark.long
def test_champion_is_served_from_the_servers_files(registered: Workspace, tmp_path: Path) -> None:
    with served(tmp_path, registered.environment("bob")) as address:
        status, answer = post(address, audio.encode(tone(seconds=0.5), 16_000), mode="extend")
    assert status == 200, answer
    enhanced, rate = audio.decode(base64.b64decode(answer["predictions"][0]["audio"]))
    assert (rate, enhanced.shape) == (48_000, (1, 24_000))


def test_only_who_may_change_the_model_promotes_and_rolls_back(
    registered: Workspace, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.get_model_version("overtone", "1")
    model_id = first.source.removeprefix("models:/")
    client.create_model_version("overtone", first.source, first.run_id, tags=first.tags, model_id=model_id)
    refused = registered.run("overtone", "promote", "2", name="bob")
    assert refused.returncode == 1
    assert re.fullmatch(rf"overtone: {registered.team.uri}: refused to bob: [^\n]+\n", refused.stderr), refused.stderr
    assert champion(client) == "1"
    grant = {"username": "bob", "resource_type": "registered_model", "resource_id": "overtone", "permission": "EDIT"}
    services.administer(registered.team, "3.0/mlflow/users/permissions/grant", grant)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", services.USERS["bob"])
        assert registry.promote("overtone", "2").champion == 2
    assert champion(client) == "2"
    assert registry.rollback("overtone").champion == 1
    assert champion(client) == "1"


def champion(client: Any) -> str:
    return str(client.get_model_version_by_alias("overtone", "champion").version)


def test_names_with_percent_signs_and_long_histories_fit_into_postgresql(
    team: Team, bare_project: Path, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened directly, from a folder with such a name."""
    from mlflow.exceptions import MlflowException

    reach = team.postgres.environment
    place = f"{reach['PGUSER']}:{reach['PGPASSWORD']}@{reach['PGHOST']}:{reach['PGPORT']}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://{place}/mlflow")
    monkeypatch.setattr(packaging, "log", light_log)
    folder = bare_project / "per%20cent"
    folder.mkdir()
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    models = [make_model(f"m{number}", run_id=f"{number:032x}", seed=number) for number in (1, 2)]
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "50 % more?")
    params = GATE.model_copy(update={"name": "over%20tone?"})
    for model, lsd in zip(models, (1.0, 0.9), strict=True):
        register.register([Candidate(model, scored(lsd))], params)
    assert [row.aliases for row in registry.models(params.name)] == [("challenger", "champion"), ("previous-champion",)]
    assert (fetch.fetch(params.name, "champion", folder / "cache") / packaging.WEIGHTS).is_file()
    assert registry.rollback(params.name).champion == 1
    client = store.client()
    versions.write(client, params.name, 1, {"decision": "long " * 2000})
    with pytest.raises(MlflowException, match="version=2999"):
        versions.set_champion(client, params.name, 1, list(range(1, 3000)))
    assert versions.history(client.get_registered_model(params.name))[-1] == 2999
    assert [path.name for path in bare_project.iterdir() if "per" in path.name] == ["per%20cent"]


# --- who is let in ------------------------------------------------------------------------------------------------------


def test_wrong_password_is_refused_in_a_sentence_that_names_the_server(team: Team, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    refused = Workspace(tmp_path, team).run("overtone", "models", password="guessed-wrongly")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"overtone: {team.uri}: unknown user or wrong password; "
        "expected MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD\n"
    )
    assert "guessed-wrongly" not in refused.stdout + refused.stderr
    audio.write(tmp_path / "in.wav", tone(), 48_000)
    enhanced = Workspace(tmp_path, team).run("overtone", "enhance", "in.wav", "out.wav", password="guessed-wrongly")
    assert (enhanced.returncode, enhanced.stderr) == (1, refused.stderr)
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "mlflow.example.org", "Origin": "https://mlflow.example.org"}, 200),
        ({"Host": "mlflow.evil.org"}, 403),
        ({"Origin": "https://mlflow.evil.org"}, 403),
    ],
    ids=["own", "other host", "other origin"],
)
def test_only_allowed_hosts_and_origins_are_answered(team: Team, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection(team.uri.removeprefix("http://"), timeout=60)
    login = base64.b64encode(f"ada:{services.USERS['ada']}".encode()).decode()
    sent = {"Content-Type": "application/json", "Authorization": f"Basic {login}", **headers}
    connection.request("POST", "/api/2.0/mlflow/experiments/search", json.dumps({"max_results": 1}), sent)
    assert connection.getresponse().status == status
    connection.close()


def test_settings_of_the_server_are_those_that_its_example_lists(team: Team) -> None:
    lines = (ROOT / "deploy" / "server.env").read_text().splitlines()
    listed = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    used = set(services.server_settings(team.postgres, team.objects, 1))
    # The service's own account is that of another container (deploy/compose.yaml).
    others = {"OVERTONE_READER_USERNAME", "OVERTONE_READER_PASSWORD"}
    assert {name for name in used if "CHECKSUM" not in name} == listed - others


# --- DVC ------------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_pushed_data_is_pulled_byte_for_byte_into_a_clone(team: Team, tmp_path: Path) -> None:
    """The project's own configuration, its remote swapped as docs/how-to/team-server.md says."""
    first, second = tmp_path / "first", tmp_path / "second"
    keys = team.objects.environment
    quiet = {"DVC_SITE_CACHE_DIR": str(tmp_path / "site"), "GIT_CONFIG_GLOBAL": "/dev/null"}
    checksums = {name: value for name, value in keys.items() if "CHECKSUM" in name}

    def run(folder: Path, *commands: str) -> None:
        for command in commands:
            done = subprocess.run(
                command.split(),
                cwd=folder,
                env=team.environment | quiet | checksums,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    login = (
        f"dvc remote modify --local team access_key_id {keys['AWS_ACCESS_KEY_ID']}",
        f"dvc remote modify --local team secret_access_key {keys['AWS_SECRET_ACCESS_KEY']}",
    )
    rng = np.random.default_rng(7)
    contents = {f"speech/{index}.bin": rng.bytes(1000 * index) for index in range(4)} | {"music/größe.flac": b"fLaC"}
    for name, content in contents.items():
        (first / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (first / "data" / name).write_bytes(content)
    (first / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore"):
        shutil.copyfile(ROOT / name, first / name)
    run(
        first,
        "git init -q",
        "dvc add -q data",
        f"dvc remote add -d team s3://{BUCKET}/dvc",
        f"dvc remote modify team endpointurl {team.objects.endpoint}",
        "dvc remote modify team region us-east-1",
        *login,
        "dvc push",
        "git add -A",
        "git -c user.name=A -c user.email=a@b.c commit -qm data",
    )
    # The five files, two of them alike or empty perhaps, and the list of them.
    assert len(team.objects.objects("dvc/")) == len(contents) + 1
    run(tmp_path, f"git clone -q {first} {second}")
    assert keys["AWS_SECRET_ACCESS_KEY"] not in (second / ".dvc" / "config").read_text()
    assert not (second / "data").exists()
    run(second, *login, "dvc pull")
    pulled = {str(p.relative_to(second / "data")): p.read_bytes() for p in (second / "data").rglob("*") if p.is_file()}
    assert pulled == contents
