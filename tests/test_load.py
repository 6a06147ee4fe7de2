"""Laws of load: what work costs as files get many or long and the registry grows, and a server that is never idle."""

from __future__ import annotations

import csv
import gc
import multiprocessing
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT, ModelMaker
from overtone import audio
from overtone.data import corpus, pairs
from overtone.registry import packaging, register, registry
from overtone.settings import CorpusParams, Params
from overtone.tracking import store
from test_registry import GATE, light_log, scored

NAME = GATE.name


@pytest.fixture
def many(tmp_path: Path, params: Params) -> Callable[[int], tuple[Path, CorpusParams]]:
    """Makes a raw folder of that many files of a fifth of a second, and the settings that accept them."""

    def make(count: int) -> tuple[Path, CorpusParams]:
        folder = tmp_path / f"raw{count}"
        kinds = ("speech", "music", "speech", "noise")
        for index in range(count):
            signal = 0.1 * np.random.default_rng(index).standard_normal((1, 9_600))
            audio.write(folder / kinds[index % 4] / f"{index:04d}.wav", signal.astype(np.float32), 48_000)
        changes = {"path": folder, "min_seconds": 0.1, "assign": type(params.corpus.assign)()}
        return folder, params.corpus.model_copy(update=changes)

    return make


def traced(call: Callable[[], Any]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def peak_bytes() -> Iterator[Callable[[partial[Any]], int]]:
    """The most that a call allocates beyond what was there before; NumPy's arrays are counted.

    In a process of its own, where no thread of another test allocates meanwhile.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        yield lambda call: alone.submit(traced, call).result()


# --- stages -----------------------------------------------------------------------------------------------------------


def test_a_long_file_takes_no_more_memory_than_a_short_one(
    tmp_path: Path, params: Params, peak_bytes: Callable[[partial[Any]], int]
) -> None:
    peaks = []
    # The first call loads libraries.
    for minutes in (0.1, 0.25, 2.5):
        folder = tmp_path / f"raw{minutes:g}"
        for seed, (name, seconds) in enumerate((("a", 1.0), ("b", 1.0), ("long", 60 * minutes))):
            signal = 0.1 * np.random.default_rng(seed).standard_normal((1, round(16_000 * seconds)))
            audio.write(folder / f"{name}.wav", signal.astype(np.float32), 16_000)
        assign = type(params.corpus.assign)(test=("a",), valid=("b",))
        changes = {"path": folder, "clip_seconds": 2.0, "rate": 16_000, "min_bandwidth_hz": 1_000.0, "assign": assign}
        settings = params.corpus.model_copy(update=changes)
        out = tmp_path / f"corpus{minutes:g}"
        peaks.append(peak_bytes(partial(corpus.build, settings, 1, out, workers=1)))
        assert len(corpus.read_manifest(out)) == 2 + round(30 * minutes)
    assert peaks[2] < 1.2 * peaks[1], "ten times the length: the same clips in memory, one after the other"


def test_many_files_take_no_more_memory_than_their_rows(
    many: Callable[[int], tuple[Path, CorpusParams]],
    params: Params,
    tmp_path: Path,
    peak_bytes: Callable[[partial[Any]], int],
) -> None:
    conditions = {"sinc_8k": params.degrade.conditions["sinc_8k"]}
    small = {"views": 1, "conditions": conditions, "valid_conditions": tuple(conditions), "extend_share": 1.0}
    settings = params.degrade.model_copy(update=small)
    peaks: dict[str, list[int]] = {"corpus": [], "degrade": []}
    # The first calls load libraries.
    for count in (20, 40, 160):
        _, given = many(count)
        out = tmp_path / f"corpus{count}"
        peaks["corpus"].append(peak_bytes(partial(corpus.build, given, 1, out, workers=1)))
        made = tmp_path / f"pairs{count}"
        peaks["degrade"].append(peak_bytes(partial(pairs.build, settings, 1, out, made, workers=1)))
    for stage, (_, few, more) in peaks.items():
        # A row of a manifest and its bookkeeping; a file's samples are 38,400 bytes.
        assert more - few < 120 * 12_000, f"{stage}: {few} and {more} bytes for 40 and 160 files"


# --- the registry -----------------------------------------------------------------------------------------------------


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of a database meanwhile."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_more_versions_and_runs_ask_no_more_of_the_store(
    project: Path, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaging, "log", light_log)
    folder = make_model("m1", run_id=f"{1:032x}", seed=1)
    candidates = [register.Candidate(folder, scored(1.0), "A card.")]
    register.register(candidates, GATE)
    client = store.client()
    first = client.get_model_version(NAME, "1")
    asked: dict[str, list[int]] = {}
    for count in (4, 40):
        for index in range(count):
            run = client.create_run(store.experiment_id(client))
            tags = dict(first.tags) | {"weights_sha256": f"{count}-{index}", "origin_run_id": run.info.run_id}
            client.create_model_version(NAME, str(first.source), run.info.run_id, tags=tags)
        for name, call in (
            ("models", lambda: registry.models(NAME)),
            ("register", lambda: register.register(candidates, GATE)),
            ("champion", lambda: registry.has_champion(NAME)),
        ):
            with statements() as seen:
                call()
            asked.setdefault(name, []).append(len(seen))
    assert len(registry.models(NAME)) == 45
    for name, (few, many) in asked.items():
        assert few == many, f"{name}: {few} statements for 5 versions, {many} for 45"


# --- the server -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.long
def test_no_request_fails_while_a_server_is_never_idle_and_its_champion_changes(
    make_model: ModelMaker, environment: dict[str, str], tmp_path: Path
) -> None:
    log, folder = tmp_path / "log", make_model()
    command = [sys.executable, ROOT / "bench" / "soak.py", folder, "--minutes", "0.1", "--swap-seconds", "1"]
    settings = environment | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*map(str, command), "--clients", "3", "--log", str(log)],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {name: list(csv.DictReader((log / f"{name}.csv").open())) for name in ("requests", "swaps", "memory")}
    assert rows["requests"]
    assert {row["fault"] for row in rows["requests"]} == {""}
    assert rows["swaps"][0]["version"] == "2"
    assert {"1", "2"} <= {row["version"] for row in rows["requests"]}
