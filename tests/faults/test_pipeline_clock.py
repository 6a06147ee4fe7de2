"""The clock is set back or ahead by more than a year, while a command runs or between two: nothing is lost or done again.

The processes are real; their clock is libfaketime's. Named so that it shares the finished pipeline of `test_pipeline`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.harness import Ledger, copy, progress, started, tree
from overtone import audio
from test_pipeline import EVERY_STAGE, Pipeline, ran, voice

pytestmark = [pytest.mark.slow, pytest.mark.faults]

BACK, AHEAD = "-400d", "+400d"


@dataclass
class Clock:
    """The clock of a pipeline's commands: what it shows is read from a file twice a second."""

    pipeline: Pipeline
    file: Path

    def set(self, offset: str) -> None:
        self.file.write_text(offset)


def faketime() -> Path | None:
    """The library that stands in for the system's clock; None where there is none or it does not load."""
    found = importlib.util.find_spec("libfaketime")
    if found is None or not found.submodule_search_locations:
        return None
    library = next(Path(found.submodule_search_locations[0]).rglob("libfaketime.so.1"), None)
    if library is None:
        return None
    year = subprocess.run(
        ["date", "+%Y"],
        env={"LD_PRELOAD": str(library), "FAKETIME": "@1999-03-01 00:00:00"},
        capture_output=True,
        check=False,
    )
    return library if year.stdout.strip() == b"1999" else None


@pytest.fixture
def clocked(pipeline: Pipeline, empty_store: Path, tmp_path: Path) -> Callable[..., Clock]:
    """Makes a copy of the pipeline whose commands have a clock of their own, with these outputs."""
    library = faketime()
    if library is None:
        pytest.skip("libfaketime does not load here")

    def make(*outputs: str) -> Clock:
        mine, file = copy(pipeline, tmp_path / "project", empty_store, *outputs), tmp_path / "clock"
        own = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1"}
        # Only the time of day is set; what measures durations goes on, and files have the times that the disk gave them.
        own |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        clock = Clock(Pipeline(mine.folder, mine.environment | own), file)
        clock.set("+0")
        return clock

    return make


@pytest.mark.parametrize("offset", [BACK, AHEAD])
def test_training_during_which_the_clock_is_set_ends_as_an_undisturbed_one(
    pipeline: Pipeline, clocked: Callable[..., Clock], ledger: Callable[[str], Ledger], offset: str
) -> None:
    record, clock = ledger("clock set in train"), clocked("work")
    mine = clock.pipeline
    with started(mine, "overtone", "stage", "train", "--model", "rnn") as process:
        assert progress(process, 4, [mine.folder / "checkpoints"]), "it had ended before the clock was set"
        clock.set(offset)
        record.tried()
        assert process.wait(600) == 0
    record.same(tree(mine.folder / "models/rnn", "run.json"), tree(pipeline.folder / "models/rnn", "run.json"))
    theirs, ours = (one.json("models/rnn/run.json") for one in (pipeline, mine))
    record.same(ours | {"run_id": ""}, theirs | {"run_id": ""})
    curve = "select key, step, value from metrics where run_uuid = '{}'"
    curve += " and key in ('extend_train_loss', 'extend_valid_lsd', 'restore_valid_gain_db')"
    found, expected = (
        {row[:2]: row[2] for row in one.rows(curve.format(facts["run_id"]))}
        for one, facts in ((mine, ours), (pipeline, theirs))
    )
    record.same(found, expected)
    assert mine.rows("select status from runs") == [("FINISHED",)]
    record.survived()


@pytest.mark.parametrize("offset", [BACK, AHEAD])
def test_line_that_is_up_to_date_stays_so_when_the_clock_is_set(
    clocked: Callable[..., Clock], ledger: Callable[[str], Ledger], offset: str
) -> None:
    record, clock = ledger("clock set before dvc repro"), clocked("work", "models", "reports")
    before = {name: tree(clock.pipeline.folder / name) for name in ("work", "models", "reports")}
    clock.set(offset)
    record.tried()
    assert ran(clock.pipeline.run("dvc", "repro")) == set() < EVERY_STAGE
    for name, files in before.items():
        record.same(tree(clock.pipeline.folder / name), files)
    record.survived()


def test_promotions_are_in_their_order_whatever_the_clock_says(
    clocked: Callable[..., Clock], ledger: Callable[[str], Ledger]
) -> None:
    record, clock = ledger("clock set between promotions"), clocked("work", "models", "reports")
    mine = clock.pipeline

    def aliases() -> dict[str, str]:
        return {
            name: str(version) for name, version in mine.rows("select alias, version from registered_model_aliases")
        }

    mine.run("overtone", "stage", "register")
    mine.run("overtone", "promote", "challenger")
    again = "from overtone.tracking import store; c = store.client(); v = c.get_model_version('overtone', '1')"
    again += "; c.create_model_version('overtone', v.source, v.run_id, tags=v.tags)"
    mine.run("python", "-c", again)
    for offset, version in ((AHEAD, "2"), (BACK, "1")):
        clock.set(offset)
        record.tried()
        mine.run("overtone", "promote", version)
        assert aliases()["champion"] == version
        record.survived()
    clock.set("+0")
    mine.run("overtone", "rollback")
    record.same(aliases(), aliases() | {"champion": "2"})


def test_folder_is_not_enhanced_again_because_the_clock_was_set(
    clocked: Callable[..., Clock], ledger: Callable[[str], Ledger]
) -> None:
    record, clock = ledger("clock set in a folder"), clocked("models/rnn")
    mine = clock.pipeline
    for number in range(2):
        audio.write(mine.folder / "in" / f"{number}.wav", voice(number, 1.0, 16_000), 16_000)
    command = ("overtone", "enhance", "in", "out", "--model", "models/rnn")
    mine.run(*command)
    out = mine.folder / "out"
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(out.glob("*.wav"))}
    assert len(before) == 2
    clock.set(BACK)
    record.tried()
    mine.run(*command)
    record.same({path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(out.glob("*.wav"))}, before)
    # One whose bytes are new is enhanced, though its time lies before the first run's.
    audio.write(mine.folder / "in" / "1.wav", voice(9, 1.0, 16_000), 16_000)
    os.utime(mine.folder / "in" / "1.wav", (1_000_000_000, 1_000_000_000))
    mine.run(*command)
    assert (out / "1.wav").read_bytes() != before["1.wav"][1]
    assert (out / "0.wav").stat().st_mtime_ns == before["0.wav"][0]
    record.survived()
