"""Laws of jobs: a file is sent once and computed once, and given in any format until it is deleted or forgotten."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from overtone import audio
from overtone.enhance.stream import Stream
from overtone.enhance.upsampler import Upsampler
from overtone.serving.errors import Refused
from overtone.serving.jobfiles import JobFiles, JobOrder
from overtone.serving.options import Options
from overtone.serving.uploads import Upload
from test_http import RATE, SMALL, serving, sound
from test_http import options as options  # a fixture


@pytest.fixture(scope="module")
def client(options: Options, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(replace(options, state=tmp_path_factory.mktemp("state"), jobs=1_000, jobs_per_client=1_000)) as opened:
        yield opened


def ended(client: TestClient, id: str) -> dict[str, Any]:
    """A job when it is done or has failed."""
    for _ in range(1_200):
        job: dict[str, Any] = client.get(f"/v1/jobs/{id}").json()
        if job["state"] in ("done", "failed"):
            return job
        threading.Event().wait(0.02)
    raise AssertionError(job)


def submitted(client: TestClient, data: bytes, **query: Any) -> str:
    answer = client.post("/v1/jobs", content=data, params=query)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_file_is_sent_and_computed_once_and_given_in_any_format(
    client: TestClient, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = sound(seconds=1.0, channels=2)
    id = submitted(client, audio.encode(signal, 16_000, subtype="FLOAT"), format="flac", cutoff_hz=8_000)
    job = ended(client, id)
    expected = {"state": "done", "progress": 1.0, "detail": None, "seconds": 1.0, "mode": "extend", "format": "flac"}
    assert expected.items() <= job.items()
    enhanced = Upsampler.load(Path(options.model)).enhance(signal, 16_000, cutoff_hz=8_000)
    monkeypatch.setattr(Stream, "push", None)
    for format in ("wav", "flac", "mp3", "opus", "ogg"):
        answer = client.get(f"/v1/jobs/{id}/result", params={"format": format})
        info = audio.probe(io.BytesIO(answer.content))
        assert (answer.status_code, info.rate, info.channels, info.frames) == (200, RATE, 2, RATE), format
        if format in ("wav", "flac"):
            assert np.allclose(audio.decode(answer.content)[0], enhanced, atol=1e-4)
    part = client.get(f"/v1/jobs/{id}/result", headers={"range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"fLaC")
    original = audio.decode(client.get(f"/v1/jobs/{id}/original").content)[0]
    assert np.abs(original - audio.resample(signal, 16_000, RATE)).max() < 1e-3


def test_report_says_in_words_what_was_found_and_done(client: TestClient) -> None:
    id = submitted(client, audio.encode(sound(8_000, seconds=1.0), 8_000))
    done = ended(client, id)["done"]
    report = client.get(f"/v1/jobs/{id}/report").json()
    assert report["findings"][0] == {
        "name": "narrow band",
        "evidence": "stored at 8000 Hz, which holds nothing above 4000 Hz",
    }
    assert (
        report["done"]
        == done
        == "band ended at 4.0 kHz: extended to 24 kHz; no lost packets, no clipping, no noise found"
    )
    assert report["notes"] == []


def test_another_job_takes_the_same_file_with_other_settings(client: TestClient) -> None:
    first = submitted(client, audio.encode(sound(RATE, seconds=1.0), RATE))
    second = submitted(client, b"", source=first, condition="sinc_8k", mode="extend", format="wav")
    assert ended(client, second)["cutoff_hz"] == pytest.approx(4_000, abs=200)
    worse = audio.decode(client.get(f"/v1/jobs/{second}/original?format=wav").content)[0]
    spectrum = np.abs(np.fft.rfft(worse[0])) ** 2
    assert spectrum[5_000:].sum() < 1e-3 * spectrum.sum(), "the condition left nothing above 4 kHz"
    assert client.delete(f"/v1/jobs/{first}").status_code == 204
    assert client.get(f"/v1/jobs/{second}/result").status_code == 200, "its file is its own"


@pytest.mark.parametrize(
    ("data", "query", "sentence"),
    [
        (b"surely no audio", {}, "not readable as audio"),
        (audio.encode(sound(seconds=0), 16_000), {}, "holds no samples"),
        (SMALL, {"model": "nobody"}, "is not known here"),
        (SMALL, {"cutoff_hz": 1}, "cutoff: expected at least"),
    ],
    ids=str,
)
def test_job_that_fails_says_why(client: TestClient, data: bytes, query: dict[str, Any], sentence: str) -> None:
    id = submitted(client, data, **query)
    job = ended(client, id)
    assert (job["state"], sentence in job["detail"]) == ("failed", True), job
    assert "/" not in job["detail"].replace("/v1/models", ""), "no name of a file of the server's"
    answer = client.get(f"/v1/jobs/{id}/result")
    assert (answer.status_code, answer.json()["detail"]) == (409, job["detail"])


def test_bad_requests_are_refused_in_a_sentence(client: TestClient) -> None:
    for path, status, sentence in (
        ("/v1/jobs?condition=worse", 404, "there is no condition 'worse'"),
        ("/v1/jobs?source=..", 404, "there is no job '..'"),
        ("/v1/jobs?format=aac", 422, "format"),
        ("/v1/jobs", 422, "the request is empty"),
    ):
        answer = client.post(path)
        assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text
    for id in ("none", "..%2f..", "a" * 22):
        assert client.get(f"/v1/jobs/{id}").status_code == 404


def test_deleted_job_is_computed_no_further(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from overtone.serving import enhancement, jobs

    monkeypatch.setattr(enhancement, "BLOCK", 4_800)
    monkeypatch.setattr(jobs, "_SAVE_SECONDS", 0.0)
    computed, go = [], threading.Event()
    of_length = enhancement.of_length

    def held(*given: Any) -> Iterator[audio.Signal]:
        for block in of_length(*given):
            computed.append(len(block))
            yield block
            go.wait(60)

    monkeypatch.setattr(enhancement, "of_length", held)
    id = submitted(client, audio.encode(sound(RATE, seconds=60.0), RATE), cutoff_hz=8_000)
    while not computed:
        threading.Event().wait(0.01)
    assert client.get(f"/v1/jobs/{id}/result").status_code == 409
    assert client.delete(f"/v1/jobs/{id}").status_code == 204
    go.set()
    for _ in range(600):
        if client.app.state.engine.limits.computing == 0:  # type: ignore[attr-defined]
            break
        threading.Event().wait(0.02)
    assert len(computed) < 6
    assert client.get(f"/v1/jobs/{id}").status_code == 404


def test_jobs_are_few_and_forgotten_after_a_while(tmp_path: Path) -> None:
    files = JobFiles(tmp_path, Options(jobs=3, jobs_per_client=2, job_minutes=1.0))
    given = Upload(io.BytesIO(b"sound"))
    first, _ = (files.create("a", given, JobOrder()) for _ in range(2))
    with pytest.raises(Refused, match="too many jobs of one address"):
        files.create("a", given, JobOrder())
    files.create("b", given, JobOrder())
    with pytest.raises(Refused, match="3 jobs are kept already"):
        files.create("c", given, JobOrder())
    first.state = "done"
    files.save(first)
    os.utime(tmp_path / first.id, (time.time() - 61,) * 2)
    files.create("a", given, JobOrder())
    assert not (tmp_path / first.id).exists(), "a finished job that nobody asks for makes room"
    with pytest.raises(Refused, match="more than is left for jobs"):
        files.require_space(10**12)


def test_job_of_a_process_that_ended_is_finished_by_the_next(options: Options, tmp_path: Path) -> None:
    files = JobFiles(tmp_path / "jobs", options)
    for attempts in (1, 2):
        job = files.create("a", Upload(io.BytesIO(SMALL)), JobOrder())
        job.state, job.attempts = "running", attempts
        files.save(job)
    kept = files.create("a", Upload(io.BytesIO(SMALL)), JobOrder())
    with files.held(kept.id), serving(replace(options, state=tmp_path)) as client:
        ids = [folder.name for folder in (tmp_path / "jobs").iterdir() if folder.name != kept.id]
        states = {ended(client, id)["state"]: client.get(f"/v1/jobs/{id}").json()["detail"] for id in ids}
        assert client.get(f"/v1/jobs/{kept.id}").json()["state"] == "queued", "another process has it"
    assert states == {
        "done": None,
        "failed": "the server ended twice while it computed this file; it is not tried again",
    }
