"""A full or read-only disk: one sentence that names the file, no half file under a final name, and nothing to mend after.

Named so that it shares the finished pipeline of `test_pipeline`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT
from faults.harness import SEARCH, Ledger, copy, disk, read_only, refused, tree
from overtone import audio
from test_pipeline import Pipeline, voice

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@dataclass(frozen=True)
class Case:
    """A command, what it reads, the folder that is a small disk, and the output in it.

    `room`: kilobytes that the disk has beyond what lies in that folder at the beginning; too few for the output.
    """

    command: tuple[str, ...]
    inputs: tuple[str, ...]
    folder: str
    room: int
    output: str
    named: str


STAGE = ("overtone", "stage")
ENHANCE = ("overtone", "enhance", "old.wav", "out/new.flac", "--model", "models/rnn")
CASES = {
    "enhance": Case(ENHANCE, ("models/rnn",), "out", 64, "out", "out/new.flac"),
    "corpus": Case((*STAGE, "corpus"), (), "work", 512, "work/corpus", "work/corpus"),
    "degrade": Case((*STAGE, "degrade"), ("work/corpus",), "work", 1024, "work/pairs", "work/pairs"),
    "train": Case((*STAGE, "train", "--model", "rnn"), ("work",), "checkpoints", 64, "models/rnn", "checkpoints/"),
    "evaluate": Case(
        (*STAGE, "evaluate", "--system", "rnn"), ("work", "models"), "reports", 64, "reports/rnn", "reports/rnn"
    ),
    "report": Case((*STAGE, "report"), ("work", "models", "reports"), "reports", 16, "reports/index.html", "reports/"),
    "fetch": Case(("overtone", "fetch", "released", "out/model"), (), "out", 64, "out/model", "out/model"),
    "tune": Case((*SEARCH, "--trials", "1"), ("work",), "reports/tune", 64, "reports/tune", "reports/tune"),
}


def bytes_of(folder: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["full", "read-only"])
@pytest.mark.parametrize("name", CASES)
def test_disk_that_takes_nothing_is_told_by_the_file_and_leaves_no_half_output(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger], name: str, kind: str
) -> None:
    case, record = CASES[name], ledger(f"disk {kind} in {name}")
    mine = copy(pipeline, tmp_path / "project", empty_store, *case.inputs)
    audio.write(mine.folder / "old.wav", voice(9, 6.0, 16_000), 16_000)
    place, output = mine.folder / case.folder, mine.folder / case.output
    if name == "report":
        output.unlink()
    if name == "fetch":
        shutil.copytree(ROOT / "released", mine.folder / "released", ignore=shutil.ignore_patterns("cnn", "rnn"))
        (mine.folder / "dvcstore").symlink_to(ROOT / "dvcstore")
    place.mkdir(parents=True, exist_ok=True)
    with disk(place, bytes_of(place) // 1024 + case.room):
        if kind == "read-only":
            read_only(place)
        before = tree(place)
        record.tried()
        said = refused(mine, *case.command)
        assert case.named in said, said
        wanted = "Read-only file system" if kind == "read-only" else "No space left on device"
        assert wanted in said, said
        assert not output.is_file()
        if name != "train":
            # Checkpoints of epochs before are whole, and meant to be there.
            kept = {path: content for path, content in tree(place).items() if not path.endswith(".log")}
            record.same(kept, before)
    record.survived()


def test_line_goes_on_with_right_results_when_there_is_space_again(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger]
) -> None:
    record = ledger("disk full in dvc repro")
    mine = copy(pipeline, tmp_path / "project", empty_store)
    # The cache holds the recordings, and nothing of the stages yet.
    made = mine.folder / ".dvc" / "cache"
    shutil.rmtree(made)
    mine.run("dvc", "commit", "--force", "data.dvc")
    with disk(made, bytes_of(made) // 1024 + 256):
        command = ["dvc", "repro", "--force", "--single-item", "corpus", "degrade"]
        record.tried()
        done = subprocess.run(
            command, cwd=mine.folder, env=mine.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0 and "space" in done.stderr + done.stdout, done.stderr
    mine.run("dvc", "repro", "--single-item", "corpus", "degrade")
    for output in ("work/corpus", "work/pairs"):
        record.same(tree(mine.folder / output), tree(pipeline.folder / output))
    record.survived()
