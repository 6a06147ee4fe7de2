"""Laws of the search: what is drawn is what is trained and written, and no death of a worker loses or repeats a trial."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import yaml
from optuna.trial import TrialState

from conftest import ROOT
from overtone import settings
from overtone.settings import ParamsError
from overtone.tracking import store
from overtone.tracking.address import public_uri
from overtone.training import fit
from overtone.training.failure import DivergedError
from overtone.tuning import search, space, worker
from overtone.tuning import study as studies
from overtone.tuning import trial as one
from overtone.tuning.plan import Plan, TuningError, plan, require_first_process, resolved
from test_training import SMALL as TRAINED

SPACE = (
    "tune.space.rnn={train.extend.learning_rate: {type: float, low: 0.000000001, high: 0.05, log: true}, "
    "train.extend.ranges.raw: {type: float, low: 0.0, high: 1.0, step: 0.1}, "
    "train.extend.ranges.cutoffs: {type: categorical, choices: [[4000.0, 8000.0], [8000.0]]}, "
    "train.restore.loss: {type: categorical, choices: [spectral, mse]}}"
)
SMALL = (
    *TRAINED,
    *(
        "train.extend.ranges.cutoffs=[4000.0, 8000.0]",
        "train.extend.ranges.raw=0.6",
        "train.fit.warmup_steps=1",
        "train.fit.average=0",
    ),
    *("tune.steps=9", "tune.epoch_steps=3", "tune.prune_after_trials=1", "tune.prune_after_epochs=0", SPACE),
)
GOOD = {
    "train.extend.learning_rate": 0.01,
    "train.extend.ranges.raw": 0.6,
    "train.extend.ranges.cutoffs": "[8000.0]",
}
BAD = GOOD | {"train.extend.learning_rate": 1e-9}


def load(*overrides: str) -> settings.Params:
    return settings.load(Path("params.yaml"), (*SMALL, *overrides))


def planned(*overrides: str, trials: int = 1, **asked: Any) -> Plan:
    return plan(load(*overrides), "rnn", Path("work/corpus"), trials, **asked)


def tune(params: settings.Params, *overrides: str, trials: int, dry_run: bool = False) -> None:
    made = plan(params, "rnn", params.train.data.source, trials)
    search.tune(made, Path("reports/tune"), overrides, dry_run=dry_run)


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


@pytest.fixture
def tuned(project: Path, corpus_folder: Path) -> Path:
    """A project with settings and pairs, and nothing trained."""
    own = {"train.extend.ranges.raw": 0.6, "train.extend.ranges.cutoffs": [4000.0, 8000.0]}
    (project / "params.yaml").write_text(settings.edited((ROOT / "params.yaml").read_text(), own))
    (project / "work").mkdir()
    shutil.copytree(corpus_folder, project / "work" / "corpus")
    return project


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run in this process: starting others takes seconds."""

    def run(made: Plan, study: optuna.Study, on_trial: Callable[[Any], None]) -> None:
        work(made, study)
        for trial in studies.of_call(study, made.call):
            on_trial(trial)

    monkeypatch.setattr(worker, "run", run)


def work(made: Plan, study: optuna.Study) -> None:
    """What the processes of a call do, one after the other."""
    seed = made.params.seed + len(study.get_trials(deepcopy=False))
    for number in range(made.goal):
        worker.work(made, seed + number)


# --- the space ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ("train.rnn.extend.width: {type: int, low: 16, high: 8}", "width.*whole number of steps"),
        (
            "train.rnn.extend.width: {type: int, low: 0, high: 32}",
            "width: 0 is no value of this setting.*greater than 0",
        ),
        ("train.rnn.extend.widht: {type: int, low: 8, high: 32}", "widht: params.yaml has no setting"),
        ("train.extend.steps: {type: int, low: 8, high: 32}", "steps: the length of a trial is tune.steps"),
        ("seed: {type: int, low: 8, high: 32}", "tune.space.rnn.seed: expected a setting of train.rnn"),
    ],
)
def test_space_that_cannot_be_searched_is_explained_at_loading(dimension: str, message: str) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml: .*{message}"):
        settings.load(ROOT / "params.yaml", (f"tune.space.rnn={{{dimension}}}",))


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_present_settings_lie_in_the_projects_own_space(kind: Any) -> None:
    made = plan(settings.load(ROOT / "params.yaml"), kind, Path("work/corpus"))
    assert space.present(made.params, made.space)


def test_what_is_drawn_is_what_is_written(tuned: Path) -> None:
    """Numbers have four digits, lists come back as lists, and the present value stays exact."""
    made = planned("train.extend.learning_rate=0.00123456")
    present = space.present(made.params, made.space)
    study = studies.open_study(made)
    for _ in range(6):
        drawn = space.draw(study.ask(), made.space, present)
        text = settings.edited(Path("params.yaml").read_text(), drawn)
        tree = yaml.safe_load(text)["train"]
        assert tree["extend"]["learning_rate"] == drawn["train.extend.learning_rate"]
        assert tree["extend"]["ranges"]["cutoffs"] == drawn["train.extend.ranges.cutoffs"]
        rate = drawn["train.extend.learning_rate"]
        assert rate == 0.00123456 or float(f"{rate:.3e}") == rate
        assert drawn["train.extend.ranges.raw"] in [round(0.1 * step, 1) for step in range(11)]
        assert settings.changed(made.params, drawn)


def test_setting_outside_its_space_is_refused_by_name(tuned: Path) -> None:
    for override in ("train.extend.learning_rate=3.0", "train.extend.ranges.cutoffs=[256]"):
        with pytest.raises(TuningError, match=rf"{override.partition('=')[0]}: expected the present value"):
            studies.open_study(planned(override))


# --- params.yaml ----------------------------------------------------------------------------------------------------


def test_edited_settings_differ_in_their_values_alone() -> None:
    before = (ROOT / "params.yaml").read_text()
    changes = {"train.extend.learning_rate": 0.00001, "train.restore.mixing.cutoffs": [4000], "train.fit.compile": True}
    after = settings.edited(before, changes | {"train.restore.loss": "mse", "train.rnn.extend.cell": "lstm"})
    pairs = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert [b.partition("#")[0].strip() for _, b in pairs] == [
        *("learning_rate: 0.00001", "loss: mse", "cutoffs: [4000]", "compile: true"),
        "extend: {cell: lstm, width: 192, layers: 2, dropout: 0.0}",
    ]
    assert pairs[3][0].index("#") == pairs[3][1].index("#")
    assert pairs[3][0].partition("#")[2] == pairs[3][1].partition("#")[2]
    assert settings.edited(after, {"train.restore.loss": "spectral"}) != before
    assert settings.edited(before, {}) == before


# --- the storage and the study ------------------------------------------------------------------------------------------


def test_storage_is_named_by_its_url(project: Path) -> None:
    assert resolved("sqlite:///optuna.db") == f"sqlite:///{project}/optuna.db"
    assert resolved("postgresql://ada@db/studies") == "postgresql://ada@db/studies"
    assert public_uri("postgresql://ada:secret@db/studies?password=secret") == "postgresql://db/studies"
    assert public_uri(resolved("sqlite:///optuna.db")) == "sqlite:///optuna.db"
    for url in ("optuna.db", "journal:///a.log", "https://ada:secret@db/studies", "sqlite://"):
        with pytest.raises(TuningError, match=r"expected sqlite:///FILE") as error:
            resolved(url)
        assert "secret" not in str(error.value)


def test_storage_that_cannot_be_opened_is_named(tuned: Path) -> None:
    Path("optuna.db").write_text("no database at all, but long enough to be looked into" * 20)
    with pytest.raises(TuningError, match=r"storage sqlite:///optuna\.db: cannot be"):
        studies.open_study(planned())


def test_plan_takes_the_storage_of_the_call_before_the_environments(
    tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERTONE_TUNE_STORAGE", "sqlite:///env.db")
    made = planned(workers=2, speed=True)
    assert made.storage.endswith("env.db")
    assert planned(storage="sqlite:///call.db").storage.endswith("call.db")
    assert made.study == "overtone-rnn-extend-speed"
    assert (made.params.train.extend.steps, made.params.train.fit.epoch_steps) == (9, 3)


def test_present_settings_are_the_first_trial_and_enqueued_once(tuned: Path) -> None:
    made = planned()
    study = studies.open_study(made)
    study = studies.open_study(made)
    assert states(study) == ["WAITING"]
    drawn = space.draw(study.ask(), made.space, space.present(made.params, made.space))
    assert drawn == {
        "train.extend.learning_rate": 0.002,
        "train.extend.ranges.raw": 0.6,
        "train.extend.ranges.cutoffs": [4000.0, 8000.0],
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.extend.clip_norm=2.0", r"begun with train\.extend\.clip_norm 1\.0, expected the same and not 2\.0"),
        (
            "tune.space.rnn={train.extend.ranges.raw: {type: float, low: 0, high: 1}}",
            "tune.space train.extend.learning_rate",
        ),
        (SPACE.replace("0.05, log: true", "0.05"), "tune.space train.extend.learning_rate"),
        ("tune.objectives=[quality, speed]", "has 1 objectives, expected 2"),
    ],
)
def test_study_of_other_trials_is_not_continued(tuned: Path, override: str, message: str) -> None:
    studies.open_study(planned(study="mine"))
    with pytest.raises(TuningError, match=f"study mine: .*{message}.*give another --study"):
        studies.open_study(planned(override, study="mine"))


def test_study_of_other_data_is_not_continued(tuned: Path) -> None:
    studies.open_study(planned())
    with Path("work/corpus/manifest.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(TuningError, match="begun with data "):
        studies.open_study(planned())
    shutil.rmtree("work/corpus")
    with pytest.raises(TuningError, match=r"work/corpus/manifest\.csv: no such file"):
        studies.open_study(planned())


def test_limits_machine_and_winner_may_change_within_a_study(tuned: Path) -> None:
    studies.open_study(planned())
    moved = SPACE.replace("high: 0.05", "high: 0.5")
    changes = (
        "train.fit.threads=2",
        "train.data.prepared=other",
        "train.extend.learning_rate=0.1",
        "train.cnn.extend.width=64",
    )
    study = studies.open_study(planned(moved, *changes, "tune.trials=7", "evaluate.figures=1"))
    assert states(study) == ["WAITING", "WAITING"]


def test_settings_that_a_trial_drew_are_not_tried_again(tuned: Path) -> None:
    made = planned()
    study = studies.open_study(made)
    for _ in range(3):
        drawn = space.draw(study.ask(), made.space, space.present(made.params, made.space))
    assert drawn["train.extend.learning_rate"] != study.trials[-1].params["train.extend.learning_rate"]
    study = studies.open_study(planned(*(f"{key}={json.dumps(value)}" for key, value in drawn.items())))
    assert states(study) == ["RUNNING"] * 3


# --- workers ------------------------------------------------------------------------------------------------------------


def test_trial_of_a_silent_machine_fails_and_is_tried_again(tuned: Path) -> None:
    made = planned("tune.heartbeat=1", "tune.retries=1")
    study = studies.open_study(made)
    trial = study.ask()
    space.draw(trial, made.space, space.present(made.params, made.space))
    storage: Any = study._storage
    storage.record_heartbeat(trial._trial_id)
    optuna.storages.fail_stale_trials(study)
    assert states(study) == ["RUNNING"]
    deadline = time.monotonic() + 30
    while states(study) == ["RUNNING"] and time.monotonic() < deadline:
        time.sleep(1)
        optuna.storages.fail_stale_trials(study)
    assert states(study) == ["FAIL", "WAITING"]
    assert study.trials[1].params == study.trials[0].params


def test_workers_that_keep_failing_stop_the_call(
    tuned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(made: Plan, seed: int) -> tuple[Any, Path]:
        made.folder.mkdir(parents=True, exist_ok=True)
        log = made.folder / f"worker-{seed}.log"
        log.write_text("no room left\n")
        process = multiprocessing.get_context("spawn").Process(target=sys.exit, args=(1,))
        process.start()
        return process, log

    monkeypatch.setattr(worker, "start", start)
    made = planned(trials=4, workers=1)
    with pytest.raises(TuningError, match=r"4 workers in a row .* ends with: no room left"):
        worker.run(made, studies.open_study(made), lambda trial: None)
    notes = capsys.readouterr().out.splitlines()
    assert len(notes) == 4
    assert all(re.fullmatch(r"worker \d+ ended with status 1: no room left \(.*\)", note) for note in notes)


def test_interrupted_worker_fails_its_trial_and_has_it_tried_again(
    tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(made: Plan, trial: optuna.Trial) -> float:
        space.draw(trial, made.space, space.present(made.params, made.space))
        raise KeyboardInterrupt

    monkeypatch.setattr(one, "run", interrupted)
    made = planned()
    study = studies.open_study(made)
    with pytest.raises(KeyboardInterrupt):
        worker.work(made, 0)
    assert states(study) == ["FAIL", "WAITING"]
    assert study.trials[0].params == space.enqueued(space.present(made.params, made.space))


# --- a search -----------------------------------------------------------------------------------------------------------


def runs_of(study: str) -> tuple[Any, list[Any]]:
    """The study's run, and those beneath it by trial number."""
    client = store.client()
    found = client.search_runs(["1"], "tags.`tune.study` = '" + study + "'")
    (parent,) = [run for run in found if "tune.trial" not in run.data.tags]
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(found) - 1
    return parent, sorted(children, key=lambda run: int(run.data.tags["tune.trial"]))


@pytest.mark.usefixtures("here")
def test_search_records_every_trial_beneath_the_study_and_continues(
    tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = planned(trials=1)
    study = studies.open_study(made)
    study.enqueue_trial(GOOD)
    first = search.search(made, Path("reports"))
    assert first.trial == 0 and first.present == first.values["quality"]
    study.enqueue_trial(BAD)
    second = search.search(planned(trials=2), Path("reports"))
    assert states(study) == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert second.trial == 1 and second.values["quality"] < first.values["quality"] == second.present
    assert second.settings == GOOD | {"train.extend.ranges.cutoffs": [8000.0]}
    assert "\ntrial 2: pruned, validation error" in capsys.readouterr().out

    parent, children = runs_of("overtone-rnn-extend")
    assert [run.info.run_name for run in children] == [f"overtone-rnn-extend trial {number}" for number in range(3)]
    assert [run.data.tags["tune.state"] for run in children] == ["complete", "complete", "pruned"]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert children[1].data.params["train.extend.learning_rate"] == "0.01"
    assert children[1].data.metrics["tune/quality"] == pytest.approx(second.values["quality"])
    assert parent.data.tags["tune.best_run"] == children[1].info.run_id
    history = store.client().get_metric_history(parent.info.run_id, "quality")
    assert {point.step for point in history} == {0, 1}
    names = {file.path for file in store.client().list_artifacts(parent.info.run_id)}
    assert names == {"overtone-rnn-extend.html", "overtone-rnn-extend.json"}
    assert json.loads(Path("reports/overtone-rnn-extend.json").read_text())["settings"] == second.settings
    text = Path("reports/overtone-rnn-extend.html").read_text()
    assert "<script src" not in text
    for title in ("Optimization History", "Parallel Coordinate", "Intermediate Values"):
        assert f"{title} Plot" in text
    assert not [path for path in made.folder.iterdir() if path.is_dir()]


@pytest.mark.usefixtures("here")
def test_the_other_network_is_searched_by_its_own_figure(tuned: Path) -> None:
    """The gain of `restore` is higher where it is better; what is drawn is of that network alone."""
    made = planned("tune.task=restore", "train.restore.steps=9")
    assert set(made.space) == {"train.restore.loss"} and made.study == "overtone-rnn-restore"
    result = search.search(made, Path("reports"))
    (child,) = runs_of("overtone-rnn-restore")[1]
    history = store.client().get_metric_history(child.info.run_id, "restore_valid_gain_db")
    assert result.values["quality"] == pytest.approx(-max(point.value for point in history))
    assert not store.client().get_metric_history(child.info.run_id, "extend_valid_lsd")


@pytest.mark.usefixtures("here")
def test_two_objectives_give_a_front_and_prune_nothing(tuned: Path) -> None:
    made = planned(trials=2, speed=True)
    study = studies.open_study(made)
    study.enqueue_trial(BAD)
    result = search.search(made, Path("reports"))
    assert states(study) == ["COMPLETE", "COMPLETE"]
    assert set(result.values) == {"quality", "speed"}
    assert result.trial == 0 and result.values["speed"] > 1.0
    assert "Pareto-front Plot" in (Path("reports") / "overtone-rnn-extend-speed.html").read_text()
    other = search.search(planned(trials=0, speed=True), Path("reports"), chosen=1)
    assert other.trial == 1 and other.settings["train.extend.learning_rate"] == 1e-9
    with pytest.raises(TuningError, match="has no complete trial 7"):
        search.search(planned(trials=0, speed=True), Path("reports"), chosen=7)


@pytest.mark.usefixtures("here")
def test_diverged_trial_is_pruned_with_its_reason(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*arguments: Any) -> list[fit.Outcome]:
        raise DivergedError("the loss is not finite")

    monkeypatch.setattr(fit, "train", diverge)
    result = search.search(planned(), Path("reports"))
    assert result.trial is None
    (child,) = runs_of("overtone-rnn-extend")[1]
    assert (child.info.status, child.data.tags["tune.state"]) == ("FAILED", "pruned")
    assert "not finite" in (Path("reports") / "overtone-rnn-extend.html").read_text()


@pytest.mark.usefixtures("here")
def test_winner_is_written_unless_it_is_there_or_only_shown(
    tuned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(params: settings.Params, *arguments: Any) -> list[fit.Outcome]:
        best = 1.0 - params.train.extend.learning_rate
        return [fit.Outcome("extend", "extend_valid_lsd", "min", 0, best, 9, False, 1)]

    monkeypatch.setattr(fit, "train", fake)
    before = Path("params.yaml").read_text()
    tune(load(), trials=1)
    shown = capsys.readouterr().out
    assert "no better than the present settings" in shown and "params.yaml: has these settings already" in shown
    studies.open_study(planned()).enqueue_trial(GOOD)
    tune(load(), trials=1, dry_run=True)
    shown = capsys.readouterr().out
    assert "-    learning_rate: 0.002\n+    learning_rate: 0.01\n" in shown and "not changed (--dry-run)" in shown
    assert Path("params.yaml").read_text() == before
    tune(load(), "seed=3", "tune.steps=9", trials=0)
    shown = capsys.readouterr().out
    assert "the trial's is 0.0080 lower" in shown and "the trials had seed=3 too" in shown
    after = Path("params.yaml").read_text()
    assert settings.load(Path("params.yaml")).train.extend.learning_rate == 0.01
    assert sum(a != b for a, b in zip(before.splitlines(), after.splitlines(), strict=True)) == 2
    tune(load(), trials=0)
    assert "has these settings already" in capsys.readouterr().out


# --- several processes --------------------------------------------------------------------------------------------------


def test_one_process_of_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    require_first_process()
    for name, value in (("LOCAL_RANK", "1"), ("TORCHELASTIC_RUN_ID", "none")):
        monkeypatch.setenv(name, value)
        with pytest.raises(TuningError, match=f"{name}={value}: expected one process"):
            require_first_process()
        monkeypatch.delenv(name)


def command(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    overrides = [text for override in (*SMALL, "tune.steps=30") for text in ("--set", override)]
    return subprocess.Popen(
        [sys.executable, "-m", "overtone", "tune", "--model", "rnn", *arguments, *overrides],
        cwd=folder,
        env=environment | {"DVC_ROOT": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.long
def test_search_survives_the_death_of_a_worker_and_goes_on(tuned: Path, environment: dict[str, str]) -> None:
    process = command(tuned, environment, "--trials", "3", "--set", "tune.heartbeat=1")
    deadline = time.monotonic() + 300
    victim = None
    while victim is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            study = optuna.load_study(study_name="overtone-rnn-extend", storage=f"sqlite:///{tuned}/optuna.db")
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        except Exception:  # not made yet
            continue
        victim = next((trial for trial in running if trial.intermediate_values), None)
    assert victim is not None, process.communicate()[0]
    (child,) = [one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())]
    child.kill()
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert f"worker {child.pid} was killed by SIGKILL" in output
    assert len(study.get_trials(deepcopy=False, states=studies.FINISHED)) == 3

    again = command(tuned, environment, "--trials", "1", "--set", "tune.heartbeat=1")
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    assert "study overtone-rnn-extend: 3 trials finished, 1 more by 1 worker" in output
    assert study.trials[victim.number].state == TrialState.FAIL
    (retried,) = [trial for trial in study.trials if trial.system_attrs.get("failed_trial") == victim.number]
    assert retried.params == victim.params and retried.state in studies.FINISHED
    _, children = runs_of("overtone-rnn-extend")
    assert children[victim.number].info.status == "KILLED"
    assert children[victim.number].data.tags["tune.state"] == "killed"
    # What the killed one printed is kept.
    assert len(list((tuned / "work" / "tune" / "overtone-rnn-extend").glob("worker-*"))) == 1
