"""Laws of the pipeline as its users run it: real dvc, mlflow and overtone commands on a tiny corpus of their own."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from conftest import ROOT
from overtone import audio
from overtone.audio import Signal
from test_serving import post, served

pytestmark = pytest.mark.slow

NOT_COPIED = ("data.dvc", "dvc.lock", "dvcstore", "released", "tests", "bench")
EVERY_STAGE = {
    *("corpus", "degrade", "train@cnn", "train@rnn"),
    *("evaluate@baselines", "evaluate@cnn", "evaluate@rnn", "report", "register"),
}
# Everything as small as it goes; what is not named stays as the project has it.
TINY: dict[str, Any] = {
    "corpus.min_seconds": 0.5,
    "corpus.clip_seconds": 2.0,
    "corpus.min_bandwidth_hz": 12_000,
    "corpus.valid_share": 0.2,
    "corpus.test_share": 0.2,
    "corpus.assign": {"valid": [], "test": []},
    "degrade.clips": 2,
    "degrade.seconds": 1.0,
    "train.extend.steps": 8,
    "train.extend.batch": 4,
    "train.extend.frames": 60,
    "train.extend.ranges.reference_frames": [20, 60],
    "train.restore.steps": 8,
    "train.restore.batch": 2,
    "train.restore.seconds": 1.0,
    "train.fit.epoch_steps": 4,
    "train.fit.warmup_steps": 2,
    "train.fit.threads": 1,
    "train.fit.accelerator": "cpu",
    "train.cnn.extend.width": 16,
    "train.cnn.extend.blocks": 1,
    "train.cnn.restore.width": 16,
    "train.cnn.restore.blocks": 1,
    "train.rnn.extend.width": 16,
    "train.rnn.extend.layers": 1,
    "train.rnn.restore.width": 16,
    "train.rnn.restore.layers": 1,
    "evaluate.figures": 2,
}
GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
BASELINES = ("sinc", "sbr", "concealer", "wiener")
CONDITIONS = ("sinc_8k", "sinc_16k", "mp3_mono_32k", "noise_10db")


def voice(seed: int, seconds: float, rate: int, channels: int = 1) -> Signal:
    """Syllables of harmonics with breath: what speech is to a pipeline."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * k * (100 + 20 * seed) * time) / k for k in range(1, 30))
    syllables = np.clip(np.sin(2 * np.pi * (2 + 0.3 * seed) * time), 0.02, None)
    return _at_level(syllables * (0.3 * buzz + rng.standard_normal((channels, len(time)))))


def chord(seed: int, seconds: float, rate: int, channels: int = 2) -> Signal:
    """Struck tones with cymbals: what music is."""
    rng = np.random.default_rng(100 + seed)
    time = np.arange(round(seconds * rate)) / rate
    beats = np.exp(-6 * (time % (0.4 + 0.05 * seed)))
    tones = sum(np.sin(2 * np.pi * (220 + 55 * seed) * ratio * time) for ratio in (1, 1.25, 1.5, 4, 10))
    return _at_level(beats * (0.5 * tones + rng.standard_normal((channels, len(time)))))


def hiss(seed: int, seconds: float, rate: int) -> Signal:
    return _at_level(np.random.default_rng(200 + seed).standard_normal((1, round(seconds * rate))))


def _at_level(signal: Any) -> Signal:
    return np.asarray(0.5 * signal / np.abs(signal).max(), dtype=np.float32)


def make_data(folder: Path) -> None:
    """A user's own folder: four formats, three rates, mono and stereo, no catalog, one file that is no use."""
    files = {
        "speech/ada.wav": (voice(1, 1.6, 48_000), 48_000),
        "speech/ben.flac": (voice(2, 1.5, 48_000), 48_000),
        "speech/cleo.ogg": (voice(3, 1.6, 44_100), 44_100),
        "speech/dan.mp3": (voice(4, 1.5, 44_100, 2), 44_100),
        "speech/eve.wav": (voice(5, 1.2, 96_000), 96_000),
        "music/one.flac": (chord(1, 1.6, 48_000), 48_000),
        "music/two.ogg": (chord(2, 1.5, 48_000), 48_000),
        "music/three.mp3": (chord(3, 1.6, 44_100), 44_100),
        "music/four.wav": (chord(4, 1.4, 44_100), 44_100),
        "noise/fan.flac": (hiss(1, 1.2, 48_000), 48_000),
        "noise/rain.wav": (hiss(2, 1.2, 48_000), 48_000),
        "noise/street.ogg": (hiss(3, 1.2, 48_000), 48_000),
        "speech/mute.wav": (np.zeros((1, 48_000), np.float32), 48_000),
    }
    for name, (signal, rate) in files.items():
        audio.write(folder / name, signal, rate)


def edit(path: Path, changes: dict[str, Any]) -> None:
    """Set dotted keys of a YAML file; comments and order stay."""
    from ruamel.yaml import YAML

    keeper = YAML()
    keeper.width = 4096
    tree = keeper.load(path)
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        node = tree
        for part in parents:
            node = node[part]
        assert leaf in node, key
        node[leaf] = value
    with path.open("w") as file:
        keeper.dump(tree, file)


@dataclass
class Pipeline:
    """A project's folder and how to run commands in it; `first` is what its first `dvc repro` said."""

    folder: Path
    environment: dict[str, str]
    first: str = ""

    def run(self, *command: str) -> str:
        """What a command prints.

        Raises:
            AssertionError: it did not end well; the message holds what it printed.
        """
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=1_800, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def set(self, **changes: Any) -> None:
        edit(self.folder / "params.yaml", {key.replace("__", "."): value for key, value in changes.items()})

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the MLflow store."""
        with sqlite3.connect(self.folder / "mlflow.db") as store:
            return store.execute(query).fetchall()

    def digest(self, stage: str) -> str:
        """What DVC recorded of a stage's only output."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text())
        return str(lock["stages"][stage]["outs"][0]["md5"])

    def metrics(self) -> dict[str, str]:
        reports = self.folder / "reports"
        return {str(path.relative_to(reports)): path.read_text() for path in sorted(reports.rglob("metrics.json"))}


def ran(output: str) -> set[str]:
    """The stages that a `dvc repro` says it ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def make_pipeline(folder: Path, empty_store: Path, environment: dict[str, str]) -> Pipeline:
    """A fresh clone with a made corpus and tiny settings, on which `dvc repro` has run once."""
    own = {"PYTHONPATH": str(folder / "src"), "DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "tmp" / "site")}
    pipeline = Pipeline(folder, environment | own)
    copy_project(folder)
    shutil.copyfile(empty_store, folder / "mlflow.db")
    pipeline.run("git", "init", "-q")
    make_data(folder / "data")
    pipeline.run("dvc", "add", "-q", "data")
    edit(folder / "params.yaml", TINY)
    conditions = yaml.safe_load((folder / "params.yaml").read_text())["degrade"]["conditions"]
    pipeline.set(degrade__conditions={name: conditions[name] for name in CONDITIONS})
    pipeline.run("git", "add", "-A")
    pipeline.run(*GIT, "commit", "-qm", "tiny")
    pipeline.first = pipeline.run("dvc", "repro")
    # Networks of eight steps beat no baseline, and one source of a kind proves nothing.
    pipeline.run("overtone", "promote", "1")
    return pipeline


def copy_project(folder: Path) -> None:
    """The project's files as git would clone them, changes that are not committed included."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if Path(name).parts[0] not in NOT_COPIED and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


# --- the first run ------------------------------------------------------------------------------------------------------


def test_first_repro_runs_every_stage(pipeline: Pipeline) -> None:
    assert ran(pipeline.first) == EVERY_STAGE


def test_useless_file_is_named_with_its_reason(pipeline: Pipeline) -> None:
    table = (pipeline.folder / "work" / "corpus" / "rejected.csv").read_text()
    assert re.search(r"^speech/mute\.wav,\"silent: ", table, re.MULTILINE), table
    assert len(table.splitlines()) == 2, table


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_trained_folder_names_a_finished_run_that_holds_its_scores(pipeline: Pipeline, kind: str) -> None:
    facts = pipeline.json(f"models/{kind}/run.json")
    assert {path.name for path in (pipeline.folder / "models" / kind).iterdir()} == {
        *("weights.safetensors", "config.json", "run.json", "history.csv")
    }
    assert facts["model"] == kind
    assert facts["steps"] == 16, "eight of each network"
    assert facts["commit"] == pipeline.run("git", "rev-parse", "HEAD").strip()
    assert facts["data_digest"] in (pipeline.folder / "data.dvc").read_text()
    run = facts["run_id"]
    assert pipeline.rows(f"select status from runs where run_uuid = '{run}'") == [("FINISHED",)]
    logged = dict(pipeline.rows(f"select key, value from latest_metrics where run_uuid = '{run}'"))
    assert {"extend_train_loss", "extend_valid_lsd", "restore_valid_gain_db", "extend_learning_rate"} <= set(logged)
    scores = pipeline.json(f"reports/{kind}/metrics.json")
    assert logged["test/overall.all.lsd"] == pytest.approx(scores["overall"]["all"]["lsd"])
    assert set(CONDITIONS) <= set(scores)
    tags = dict(pipeline.rows(f"select key, value from tags where run_uuid = '{run}'"))
    assert (tags["git_commit"], tags["data_digest"]) == (facts["commit"], facts["data_digest"])
    assert tags["dvc_stage"] == f"train@{kind}"
    assert tags["test_set"] == scores["test_set"]


def test_run_holds_figures_and_audio_to_compare(pipeline: Pipeline) -> None:
    run = pipeline.json("models/rnn/run.json")["run_id"]
    artifacts = pipeline.folder / "mlruns" / "overtone" / run / "artifacts" / "evaluation"
    assert len(list((artifacts / "figures").glob("*.png"))) == 2
    sounds = sorted((artifacts / "audio").glob("*.flac"))
    assert {path.stem.rsplit("-", 1)[1] for path in sounds} == {"before", "after", "reference"}
    examples = {path.stem.rsplit("-", 1)[0] for path in sounds}
    assert len(sounds) == 3 * len(examples) == 6
    for example in examples:
        infos = [audio.probe(path) for path in sounds if path.name.startswith(f"{example}-")]
        # What arrived is at the rate of its transmission.
        assert len({(round(info.frames / info.rate, 2), info.channels) for info in infos}) == 1, (
            "equal length, channels"
        )


def test_better_model_is_the_champion(pipeline: Pipeline) -> None:
    scores = {kind: pipeline.json(f"reports/{kind}/metrics.json")["overall"]["all"]["lsd"] for kind in ("cnn", "rnn")}
    better = min(scores, key=lambda kind: scores[kind])
    assert f"{better} -> overtone version 1 (registered)" in pipeline.first
    aliases = dict(pipeline.rows("select alias, version from registered_model_aliases where name = 'overtone'"))
    assert {name: int(number) for name, number in aliases.items()} == {"champion": 1, "challenger": 1}
    tags = dict(pipeline.rows("select key, value from model_version_tags where version = 1"))
    facts = pipeline.json(f"models/{better}/run.json")
    assert (tags["model"], tags["run_id"], tags["git_commit"]) == (better, facts["run_id"], facts["commit"])


def test_report_is_kept_with_the_run_of_each_system(pipeline: Pipeline) -> None:
    page = (pipeline.folder / "reports" / "index.html").read_bytes()
    query = "select a.value, a.run_uuid from tags a join tags b using (run_uuid) where a.key = 'overtone.system'"
    query += " and b.key = 'overtone.kind' and b.value in ('training', 'baseline')"
    runs = dict(pipeline.rows(query))
    assert set(runs) == {*BASELINES, "cnn", "rnn"}
    for system, run in runs.items():
        kept = pipeline.folder / "mlruns" / "overtone" / run / "artifacts" / "report" / "index.html"
        assert kept.read_bytes() == page
        ((note,),) = pipeline.rows(f"select value from tags where key = 'mlflow.note.content' and run_uuid = '{run}'")
        assert all(f"| {name} | " in note for name in runs), system
        assert run in page.decode()


def test_champion_has_a_card_of_the_users_own_audio(pipeline: Pipeline) -> None:
    ((card,),) = pipeline.rows("select description from registered_models where name = 'overtone'")
    assert "Champion: version 1" in card and "min of speech" in card
    assert "licences of the training audio are not stated" in card


def test_dvc_shows_metrics_and_plots(pipeline: Pipeline) -> None:
    shown = json.loads(pipeline.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert set(shown) == set(yaml.safe_load((pipeline.folder / "dvc.yaml").read_text())["metrics"])
    assert {Path(path).parent.name for path in shown} == {*BASELINES, "cnn", "rnn"}
    assert all("error" not in one for one in shown.values())
    page = pipeline.run("dvc", "plots", "show", "-o", "plots")
    assert (pipeline.folder / "plots" / "index.html").is_file(), page


# --- the way back ---------------------------------------------------------------------------------------------------------


def test_lineage_of_the_champion_holds(pipeline: Pipeline) -> None:
    output = pipeline.run("overtone", "lineage", "models:/overtone@champion")
    states = re.findall(r"^(ok|differs|unknown) ", output, re.MULTILINE)
    assert states == 7 * ["ok"], output
    assert pipeline.run("git", "rev-parse", "HEAD").strip() in output


# --- what runs again ----------------------------------------------------------------------------------------------------


def test_second_repro_runs_nothing(pipeline: Pipeline) -> None:
    assert pipeline.run("dvc", "status") == "Data and pipelines are up to date.\n"
    registered = pipeline.json("reports/registered.json")
    assert (registered["name"], registered["version"], registered["registry"]) == ("overtone", 1, "sqlite:///mlflow.db")


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("errors.py", set()),
        ("tracking/store.py", set()),
        ("settings/loading.py", set()),
        ("models/extend.py", {"train@cnn", "train@rnn", "evaluate@baselines", "evaluate@cnn", "evaluate@rnn"}),
    ],
)
def test_touched_code_reruns_what_it_decides(pipeline: Pipeline, name: str, stages: set[str]) -> None:
    path = pipeline.folder / "src" / "overtone" / name
    before = path.read_text()
    path.write_text(f"{before}# touched\n")
    try:
        changed = set(json.loads(pipeline.run("dvc", "status", "--json")))
    finally:
        path.write_text(before)
    assert changed - {"report"} == stages


@pytest.mark.long
def test_rnn_settings_rerun_the_rnn_alone_and_going_back_restores_its_run(pipeline: Pipeline) -> None:
    before = pipeline.json("models/rnn/run.json")
    cnn = pipeline.json("models/cnn/run.json")
    pipeline.set(train__rnn__extend__width=8)
    assert ran(pipeline.run("dvc", "repro")) == {"train@rnn", "evaluate@rnn", "report", "register"}
    changed = pipeline.json("models/rnn/run.json")
    assert changed["settings"]["train.rnn.extend.width"] == 8
    assert changed["run_id"] != before["run_id"]
    assert pipeline.json("models/cnn/run.json") == cnn
    pipeline.set(train__rnn__extend__width=16)
    assert ran(pipeline.run("dvc", "repro")) == {"register"}
    assert pipeline.json("models/rnn/run.json") == before


@pytest.mark.long
def test_forced_repro_gives_the_same_figures(pipeline: Pipeline) -> None:
    before = pipeline.metrics()
    assert len(before) == len(BASELINES) + 2
    weights = (pipeline.folder / "models" / "rnn" / "weights.safetensors").read_bytes()
    made = {name: pipeline.digest(name) for name in ("corpus", "degrade")}
    # One system of the six: each stage takes seconds to start.
    stages = ("corpus", "degrade", "train@rnn", "evaluate@rnn")
    assert ran(pipeline.run("dvc", "repro", "--force", "--single-item", *stages)) == set(stages)
    assert pipeline.metrics() == before
    assert {name: pipeline.digest(name) for name in ("corpus", "degrade")} == made
    assert (pipeline.folder / "models" / "rnn" / "weights.safetensors").read_bytes() == weights


# --- other ways in ------------------------------------------------------------------------------------------------------


def test_champion_enhances_a_file_from_the_command_line(pipeline: Pipeline) -> None:
    signal = voice(9, 0.7, 16_000, 2)
    audio.write(pipeline.folder / "old.wav", signal, 16_000)
    pipeline.run("overtone", "enhance", "old.wav", "new.flac")
    info = audio.probe(pipeline.folder / "new.flac")
    assert (info.rate, info.channels, info.frames) == (48_000, 2, 3 * signal.shape[1])
    assert "champion" in pipeline.run("overtone", "models")


@pytest.mark.long
def test_champion_answers_over_http(pipeline: Pipeline) -> None:
    with served(pipeline.folder, pipeline.environment) as address:
        status, answer = post(address, audio.encode(voice(9, 0.7, 16_000), 16_000), mode="extend")
    assert status == 200, answer
    enhanced, rate = audio.decode(base64.b64decode(answer["predictions"][0]["audio"]))
    assert (rate, enhanced.shape) == (48_000, (1, 33_600))


@pytest.mark.long
def test_mlflow_run_of_a_training_is_one_run_with_its_settings(pipeline: Pipeline) -> None:
    kept = {path: path.read_bytes() for path in (pipeline.folder / "models" / "rnn").iterdir()}
    before = {run for (run,) in pipeline.rows("select run_uuid from runs")}
    settings = "set=train.extend.steps=4 train.rnn.extend.cell=lstm"
    pipeline.run("mlflow", "run", ".", "-e", "train", "-P", "model=rnn", "-P", settings, "--env-manager", "local")
    facts = pipeline.json("models/rnn/run.json")
    for path, content in kept.items():
        path.write_bytes(content)
    (made,) = {run for (run,) in pipeline.rows("select run_uuid from runs")} - before
    assert facts["run_id"] == made
    assert pipeline.rows(f"select status from runs where run_uuid = '{made}'") == [("FINISHED",)]
    params = dict(pipeline.rows(f"select key, value from params where run_uuid = '{made}'"))
    assert (params["train.extend.steps"], params["train.rnn.extend.cell"]) == ("4", "lstm")
    metrics = {name for (name,) in pipeline.rows(f"select key from latest_metrics where run_uuid = '{made}'")}
    assert "extend_valid_lsd" in metrics
