"""SIGKILL of a command and all of its processes at any moment: the same command again ends as an undisturbed one does.

Named so that it shares the finished pipeline of `test_pipeline`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.harness import MOMENTS, SEARCH, Ledger, cache_digests, copy, killed, moments, tree
from overtone import audio
from test_pipeline import Pipeline, voice

pytestmark = [pytest.mark.slow, pytest.mark.faults]

Record = list[tuple[str, object]]


@dataclass(frozen=True)
class Stage:
    """A stage: what it reads, what it makes, and how many events of its progress are certain.

    `varying`: files whose content holds run ids and times.
    """

    command: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str
    watched: tuple[str, ...]
    events: int
    varying: tuple[str, ...] = ()


STAGES = {
    "corpus": Stage(("corpus",), (), "work/corpus", ("work",), 12),
    "degrade": Stage(("degrade",), ("work/corpus",), "work/pairs", ("work",), 60),
    # run.json holds the run's id; the rest of it is compared below.
    "train": Stage(
        ("train", "--model", "rnn"), ("work",), "models/rnn", ("checkpoints", ".overtone", "models"), 16, ("run.json",)
    ),
    "evaluate": Stage(
        ("evaluate", "--system", "rnn"), ("work", "models"), "reports/rnn", ("reports", "mlflow.db"), 14, ()
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_killed_stage_ends_as_an_undisturbed_one(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger], name: str
) -> None:
    stage, record = STAGES[name], ledger(f"kill -9 in {name}")
    command = ("overtone", "stage", *stage.command)
    mine = copy(pipeline, tmp_path / "project", empty_store, *stage.inputs)
    for events in moments(stage.events, name):
        if killed(mine, events, stage.watched, *command):
            record.tried()
    assert record.counts["tried"], "it always ended before it was killed"
    mine.run(*command)
    record.same(tree(mine.folder / stage.output, *stage.varying), tree(pipeline.folder / stage.output, *stage.varying))
    assert not list((mine.folder / "work").glob(".*.*")), "the folders that the killed ones left are gone"
    if name == "train":
        theirs, ours = (json.loads((one.folder / "models/rnn/run.json").read_text()) for one in (pipeline, mine))
        record.same(ours | {"run_id": ""}, theirs | {"run_id": ""})
        curves = "select key, step, value from metrics where run_uuid = '{}'"
        curves += " and key in ('extend_train_loss', 'extend_valid_lsd', 'restore_valid_gain_db')"
        record.same(
            *({row[:2]: row[2] for row in one.rows(curves.format(facts["run_id"]))} for one, facts in
              ((mine, ours), (pipeline, theirs)))
        )  # fmt: skip
        assert mine.rows("select count(*) from runs where status = 'FINISHED'") == [(1,)], "one execution is one run"
        assert mine.rows("select count(distinct run_uuid) from metrics") == [(1,)], "and has the whole curve"
    for _ in range(record.counts["tried"]):
        record.survived()


def test_killed_report_ends_as_an_undisturbed_one(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("kill -9 in report")
    mine = copy(pipeline, tmp_path / "project", empty_store, "work", "models", "reports")
    command, page = ("overtone", "stage", "report"), mine.folder / "reports" / "index.html"
    # The page names the runs of this store.
    mine.run(*command)
    calm = page.read_bytes()
    page.unlink()
    for events in moments(3, "report"):
        if killed(mine, events, ("reports", "mlflow.db"), *command):
            record.tried()
    mine.run(*command)
    record.same({"page": page.read_bytes()}, {"page": calm})
    for _ in range(record.counts["tried"]):
        record.survived()


def test_killed_registration_leaves_one_version_and_one_champion(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("kill -9 in register")
    mine = copy(pipeline, tmp_path / "project", empty_store, "work", "models", "reports")
    for events in moments(24, "register"):
        if killed(mine, events, ("mlruns", "mlflow.db"), "overtone", "stage", "register"):
            record.tried()
    mine.run("overtone", "stage", "register")
    mine.run("overtone", "promote", "challenger")
    aliases = mine.rows("select alias, version from registered_model_aliases")
    assert {name: int(version) for name, version in aliases} == {"champion": 1, "challenger": 1}
    assert mine.rows("select count(*) from model_versions") == [(1,)]
    query = "select key, value from model_version_tags where key in ('weights_sha256', 'model', 'test_set', 'origin_run_id')"
    record.same(dict(mine.rows(query)), dict(pipeline.rows(f"{query} and version = 1")))
    mine.run("overtone", "fetch", "champion", "fetched")
    model = mine.rows("select value from model_version_tags where key = 'model'")[0][0]
    record.same(
        {"weights": (mine.folder / "fetched" / "weights.safetensors").read_bytes()},
        {"weights": (pipeline.folder / "models" / model / "weights.safetensors").read_bytes()},
    )
    for _ in range(record.counts["tried"]):
        record.survived()


def test_killed_promotion_ends_with_the_version_it_was_asked_for(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("kill -9 in promote")
    mine = copy(pipeline, tmp_path / "project", empty_store, "work", "models", "reports")
    mine.run("overtone", "stage", "register")
    mine.run("overtone", "promote", "challenger")
    # The same model again, as a version of its own.
    again = "from overtone.tracking import store; c = store.client(); v = c.get_model_version('overtone', '1')"
    again += "; c.create_model_version('overtone', v.source, v.run_id, tags=v.tags)"
    mine.run("python", "-c", again)
    wanted = "2"
    for events in moments(6, "promote"):
        if killed(mine, events, ("mlflow.db",), "overtone", "promote", wanted):
            record.tried()
        mine.run("overtone", "promote", wanted)
        aliases = dict(mine.rows("select alias, version from registered_model_aliases"))
        other = "1" if wanted == "2" else "2"
        record.same(
            {name: str(aliases[name]) for name in ("champion", "previous-champion")},
            {"champion": wanted, "previous-champion": other},
        )
        wanted = other
    for _ in range(record.counts["tried"]):
        record.survived()


def test_killed_enhancement_leaves_no_file_and_ends_the_same_again(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("kill -9 in enhance")
    mine = copy(pipeline, tmp_path / "project", empty_store, "models/rnn")
    audio.write(mine.folder / "old.wav", voice(9, 20.0, 16_000), 16_000)
    command = ("overtone", "enhance", "old.wav")
    options = ("--model", "models/rnn")
    mine.run(*command, "calm.flac", *options)
    (mine.folder / "out").mkdir()
    for events in moments(3, "enhance"):
        if killed(mine, events, ("out",), *command, "out/new.flac", *options):
            record.tried()
            assert not (mine.folder / "out" / "new.flac").exists()
    mine.run(*command, "out/new.flac", *options)
    record.same(
        {"new": (mine.folder / "out" / "new.flac").read_bytes()}, {"new": (mine.folder / "calm.flac").read_bytes()}
    )
    for _ in range(record.counts["tried"]):
        record.survived()


def test_killed_repro_goes_on_and_poisons_no_cache(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("kill -9 in dvc repro")
    mine = copy(pipeline, tmp_path / "project", empty_store)
    stages = ("corpus", "degrade", "train@rnn")
    for events in moments(100, "repro"):
        command = ("dvc", "repro", "--force", "--single-item", *stages)
        if killed(mine, events, ("work", "models", "checkpoints", ".dvc/cache"), *command):
            record.tried()
    assert record.counts["tried"]
    mine.run("dvc", "repro", "--single-item", *stages)
    for output in ("work/corpus", "work/pairs", "models/rnn"):
        record.same(tree(mine.folder / output, "run.json"), tree(pipeline.folder / output, "run.json"))
    record.same(*cache_digests(mine.folder))
    for _ in range(record.counts["tried"]):
        record.survived()


def test_killed_search_ends_with_all_its_trials(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("kill -9 in tune")
    mine = copy(pipeline, tmp_path / "project", empty_store, "work")
    command = (*SEARCH, "--trials", "3", "--workers", "1", "--storage", "sqlite:///optuna.db")
    for events in moments(20, "tune"):
        if killed(mine, events, ("optuna.db", "reports"), *command):
            record.tried()
    said = mine.run(*command)
    assert "best: trial" in said
    with sqlite3.connect(mine.folder / "optuna.db") as study:
        states = [state for (state,) in study.execute("select state from trials")]
    assert len([state for state in states if state in ("COMPLETE", "PRUNED")]) >= 3 and "RUNNING" not in states
    record.same({}, {})
    for _ in range(record.counts["tried"]):
        record.survived()


def test_moments_are_seeded_and_spread() -> None:
    drawn = moments(100, "a command")
    assert drawn == moments(100, "a command") and len(drawn) == MOMENTS
    assert drawn == sorted(drawn) and drawn[0] >= 1 and drawn[-1] <= 100
