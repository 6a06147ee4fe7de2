"""Two `dvc repro` of one project at once: one works, the other says who is at it, and nothing is mixed up.

Named so that it shares the finished pipeline of `test_pipeline`.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.harness import Ledger, cache_digests, copy, tree
from test_pipeline import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.faults]

STAGES = ("corpus", "degrade", "train@rnn")
# What DVC says of an output that another of its processes writes, or of the moment in which it changes its own records.
BUSY = re.compile(r"is busy, it is being blocked by|Unable to acquire lock")


@pytest.mark.parametrize("apart", [0.0, 6.0])
def test_two_repros_at_once_end_as_one(
    pipeline: Pipeline, empty_store: Path, tmp_path: Path, ledger: Callable[[str], Ledger], apart: float
) -> None:
    record = ledger("two dvc repro at once")
    mine = copy(pipeline, tmp_path / "project", empty_store)
    command = ("dvc", "repro", "--force", "--single-item", *STAGES)
    options: dict[str, Any] = {"cwd": mine.folder, "env": mine.environment, "stdin": subprocess.DEVNULL}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    record.tried()
    running = []
    for _ in range(2):
        running.append(subprocess.Popen(command, **options))
        time.sleep(apart)
    said = [process.communicate(timeout=600)[0] for process in running]
    ended = [process.returncode for process in running]
    assert 0 in ended, "\n".join(said)
    for status, words in zip(ended, said, strict=True):
        assert status == 0 or BUSY.search(words), words
        assert "Traceback" not in words, words
    mine.run("dvc", "repro", "--single-item", *STAGES)
    for output in ("work/corpus", "work/pairs", "models/rnn"):
        record.same(tree(mine.folder / output, "run.json"), tree(pipeline.folder / output, "run.json"))
    record.same(*cache_digests(mine.folder))
    kept = mine.json("models/rnn/run.json")["run_id"]
    assert mine.rows(f"select status from runs where run_uuid = '{kept}'") == [("FINISHED",)]
    assert mine.rows("select count(*) from runs where status = 'RUNNING'") == [(0,)]
    record.survived()
