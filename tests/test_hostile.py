"""Laws of bad input: some 440 hostile or odd files end as docs/reference/formats.md says, in bounded memory.

A door is tried in a process of its own, which a crash or a lack of memory would end: then files are missing in its report.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import hostile
from conftest import ModelMaker
from hostile import Case
from overtone import audio
from test_http import started

MB = 1 << 20
ROOT = Path(__file__).parents[1]
# What a door may hold in memory, whatever the file; torch alone takes 300 MB. Address space is limited where nothing but
# NumPy and libsndfile is loaded.
READER_BYTES, DOOR_BYTES = 256 * MB, 1_500 * MB
# Of a single file on a loaded machine; whoever hangs, hangs longer.
SECONDS = 120


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "files"
    hostile.make(path, hostile.cases())
    return path


@pytest.fixture(scope="session")
def made(folder: Path) -> list[Case]:
    """The cases that this file system holds."""
    names = {os.fsencode(entry.name) for entry in os.scandir(folder)}
    return [case for case in hostile.cases() if os.fsencode(case.name) in names]


@dataclass(frozen=True)
class Report:
    """What a door's process told of each file: None for accepted, else the message; and its peak of memory in bytes."""

    told: Mapping[str, str | None]
    peak: int


def tried(door: str, folder: Path, cases: list[Case], *arguments: str, space: int = 0) -> Report:
    """Send files through a door of `tests/doors.py` in a process of its own."""
    source = str(Path(audio.__file__).parents[2])
    process = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "doors.py"), door, str(folder), *arguments],
        input=json.dumps([case.name for case in cases]),
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "DOOR_BYTES": str(space)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=1_200,
        check=False,
    )
    lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    told = {line["name"]: line["refused"] for line in lines if "name" in line}
    lost = next((case.name for case in cases if case.name not in told), None)
    assert lost is None, f"the process ended at {lost!r} ({process.returncode}): {process.stderr[-2000:]}"
    slow = {line["name"]: line["seconds"] for line in lines if line.get("seconds", 0) > SECONDS}
    assert not slow
    return Report(told, max(line["peak"] for line in lines if "peak" in line))


def check(told: Mapping[str, str | None], cases: list[Case]) -> None:
    """Each file ended as its verdict says, and what refused it is one sentence."""
    wrong = {
        case.name: (case.verdict, told[case.name])
        for case in cases
        if case.verdict != "either" and (told[case.name] is None) != (case.verdict == "accepted")
    }
    assert not wrong
    for name, sentence in told.items():
        if sentence is not None:
            assert "Traceback" not in sentence
            assert "Error:" not in sentence, (name, sentence)
            assert 10 < len(sentence) < 1_500, (name, sentence)


def test_there_are_hundreds_of_files_of_either_verdict() -> None:
    cases = hostile.cases()
    assert len({case.name for case in cases}) == len(cases) >= 200
    counts = {verdict: sum(case.verdict == verdict for case in cases) for verdict in ("accepted", "refused", "either")}
    assert min(counts.values()) >= 90, counts


def test_readers_refuse_or_read_in_bounded_memory(folder: Path, made: list[Case]) -> None:
    report = tried("reader", folder, made, space=1_024 * MB)
    check(report.told, made)
    assert report.peak < READER_BYTES


@pytest.mark.slow
@pytest.mark.long
def test_served_model_answers_or_says_why_not(folder: Path, made: list[Case], make_model: ModelMaker) -> None:
    files = [case for case in made if case.is_file]
    report = tried("predict", folder, files, str(make_model()))
    check(report.told, [case for case in files if not _without_name(case)])
    assert report.peak < DOOR_BYTES + 1_000 * MB, "it holds a request's audio whole"


def _without_name(case: Case) -> bool:
    """Whether libsndfile needs a name's extension to know what a file is; servers get none."""
    return case.name.endswith(".mp3") and case.verdict == "either"


@pytest.mark.slow
@pytest.mark.long
def test_folder_is_enhanced_around_its_bad_files(
    folder: Path, made: list[Case], make_model: ModelMaker, tmp_path: Path, environment: dict[str, str]
) -> None:
    model, out = make_model(), tmp_path / "enhanced"
    command = [sys.executable, "-m", "overtone", "enhance", str(folder), "--output", str(out), "--model", str(model)]
    source = str(Path(audio.__file__).parents[2])
    process = subprocess.Popen(
        [*command, "--jobs", "1"],
        env=environment | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        errors="surrogateescape",
    )
    try:
        _, stderr = process.communicate(timeout=1_200)
    finally:
        process.kill()
    assert process.returncode == 1, stderr[-3_000:]
    assert "Traceback" not in stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1_024 < DOOR_BYTES + 1_000 * MB
    records = {}
    for line in (out / "enhanced.jsonl").read_text(errors="surrogateescape").splitlines():
        record = json.loads(line)
        records[record["target"]] = record
    # Folders, pipes and links that lead nowhere are no files of the folder.
    files = [
        case for case in made if (folder / case.name).is_file() and Path(case.name).suffix.lower() in audio.EXTENSIONS
    ]
    assert set(records) == {case.name for case in files}
    check({name: record["error"] or None for name, record in records.items()}, files)
    left = {os.fsencode(entry.name) for entry in os.scandir(out)} - {b"enhanced.jsonl", b".enhanced.lock"}
    assert left == {os.fsencode(name) for name, record in records.items() if record["state"] == "done"}
    for name in sorted(records)[::7]:
        if records[name]["state"] == "done":
            signal, rate = audio.read(out / name)
            assert np.isfinite(signal).all()
            assert abs(signal.shape[1] / rate - records[name]["seconds"]) < 0.1, name


@pytest.mark.slow
@pytest.mark.long
def test_command_tells_of_a_bad_file_in_a_sentence(
    folder: Path, made: list[Case], make_model: ModelMaker, tmp_path: Path, environment: dict[str, str]
) -> None:
    model = make_model()
    source = str(Path(audio.__file__).parents[2])
    names = ["pipe.wav", "loop.wav", "folder.wav", "text.raw", "at_1.wav", "two\nlines.wav", "x" * 300 + ".wav"]
    names += [case.name for case in made if not case.name.isprintable() and case.name.startswith("bell")]
    for number, name in enumerate(names):
        # Folders are enhanced file by file: this one holds none.
        target = tmp_path / (f"{number}.wav" if name != "folder.wav" else "out")
        done = subprocess.run(
            [sys.executable, "-m", "overtone", "enhance", str(folder / name), str(target), "--model", str(model)],
            env=environment | {"PYTHONPATH": source},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=300,
            check=False,
        )
        known = {case.name: case.verdict for case in made}.get(name, "refused")
        assert done.returncode == (0 if known == "accepted" else 1), (name, done.stderr)
        assert "Traceback" not in done.stderr
        if known == "refused":
            assert done.stderr.startswith("overtone: ")
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert not target.exists() or target.is_dir()
        assert "\x1b" not in done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_server_answers_or_says_why_not(
    folder: Path, made: list[Case], make_model: ModelMaker, tmp_path: Path, environment: dict[str, str]
) -> None:
    told: dict[str, str | None] = {}
    files = [case for case in made if isinstance(case.data, bytes)]
    with started(tmp_path, environment, "--model", str(make_model()), "--workers", "1", "--no-access-log") as (
        address,
        process,
        log,
    ):
        with httpx.Client(base_url=address, timeout=SECONDS) as client:
            for case in files:
                assert isinstance(case.data, bytes)
                told[case.name] = _answered(client, case.data)
            assert client.get("/healthz").status_code == 200
            bomb = hostile.flac_of_silence(10 * 3_600)
            assert len(bomb) < 500_000
            assert client.post("/v1/enhance", content=bomb).status_code == 413
        status = Path(f"/proc/{process.pid}/status")
        if status.exists():
            peak = int(status.read_text().split("VmHWM:")[1].split()[0]) * 1_024
            assert peak < DOOR_BYTES
        assert "Traceback" not in log.read_text(errors="replace")
    check(told, [case for case in files if not _without_name(case)])


def _answered(client: httpx.Client, data: bytes) -> str | None:
    """None for an enhanced file, else the server's sentence."""
    try:
        answer = client.post("/v1/enhance", content=data)
    except httpx.RemoteProtocolError as error:
        return f"the answer was broken off: {error}"
    if answer.status_code == 200:
        assert answer.content
        return None
    assert 400 <= answer.status_code < 500, answer.text
    sentence: Any = answer.json()["detail"]
    assert isinstance(sentence, str)
    return sentence


@pytest.mark.slow
@pytest.mark.long
def test_corpus_is_built_around_bad_files(folder: Path, made: list[Case], tmp_path: Path) -> None:
    report = tried("corpus", folder, [], str(tmp_path / "corpus"))
    assert report.peak < DOOR_BYTES
    files = [
        case for case in made if (folder / case.name).is_file() and Path(case.name).suffix.lower() in audio.EXTENSIONS
    ]
    from overtone.data import corpus, manifest

    clips = {clip.origin for clip in corpus.read_manifest(tmp_path / "corpus")}
    refused: dict[str, str | None] = {
        row.file: row.reason
        for row in manifest.read(tmp_path / "corpus" / corpus.REJECTED, corpus.Rejection, "corpus", corpus.CorpusError)
    }
    names = {case.name for case in files}
    assert clips | set(refused) == names
    assert len(clips) > 50
    # More is refused here: silence, more than two channels, what is too short or a copy.
    check({name: refused.get(name) for name in names if name not in clips}, [])
    assert not clips & {case.name for case in files if case.verdict == "refused"}
