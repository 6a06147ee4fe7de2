"""Laws of what the server offers to try a model on: samples, conditions, recordings made worse."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from conftest import ROOT, ModelMaker
from overtone import audio
from overtone import settings as params
from overtone.data import degrade
from overtone.serving import conditions
from overtone.serving.conditions import MAX_DAMAGED_SECONDS, SAMPLES, SEED
from overtone.serving.options import Options
from overtone.settings import BitErrors, Clip, Codec, Condition, NarrowBand, Noise, PacketLoss, Quantise
from test_http import serving, sound

RATE = 48_000


@pytest.fixture
def client(make_model: ModelMaker) -> Iterator[TestClient]:
    with serving(Options(model=str(make_model()), workers=1, poll_seconds=60.0, max_seconds=400.0)) as opened:
        yield opened


def post(client: TestClient, data: bytes, **query: Any) -> httpx.Response:
    answer: httpx.Response = client.post("/v1/degrade", content=data, params=query)
    return answer


def test_samples_are_full_band_small_and_attributed(client: TestClient) -> None:
    listed = client.get("/v1/samples").json()["samples"]
    assert {one["kind"] for one in listed} == {"speech", "music"}
    for one in listed:
        assert all(one[field] for field in ("title", "by", "licence", "source"))
        signal, rate = audio.decode(client.get(f"/{one['url']}").content)
        assert signal.shape[1] / rate == pytest.approx(one["seconds"], abs=0.01)
        assert 3.0 <= one["seconds"] <= 6.0
        power = np.abs(np.fft.rfft(signal.mean(axis=0))) ** 2
        above = power[round(12_000 / rate * signal.shape[1]) :].sum() / power.sum()
        assert 10 * np.log10(above) > -55, one["name"]
    assert sum(file.stat().st_size for file in SAMPLES.iterdir()) < 1_500_000
    assert client.get("/v1/samples/..%2Fsamples.json").status_code == 404
    assert client.get("/v1/samples/none").json() == {
        "detail": "there is no sample 'none'; expected a name of /v1/samples"
    }


def test_conditions_of_a_project_are_its_own_and_elsewhere_the_same(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = client.get("/v1/conditions").json()["conditions"]
    monkeypatch.chdir(ROOT)
    own = {name: one for name, one in params.load().degrade.conditions.items() if one.steps}
    assert conditions.known() == own
    assert client.get("/v1/conditions").json()["conditions"] == elsewhere
    assert [one["name"] for one in elsewhere] == ["none", *own]
    assert elsewhere[1] == {
        "name": "sinc_8k",
        "mode": "extend",
        "title": "8 kHz source",
        "description": "It is sent at 8 kHz.",
    }


def test_every_step_has_words() -> None:
    steps = (NarrowBand(rate=8_000), Codec(codec="gsm610"), PacketLoss(share=0.1), BitErrors(rate=0.01))
    many = Condition(mode="restore", steps=(*steps, Noise(snr_db=3), Clip(share=0.1), Quantise(bits=6)))
    told = conditions.described("many", many)["description"]
    assert told.startswith("Nothing is left above 4 kHz; then it is coded as gsm610")
    assert told.endswith("rounded to 6 bit.")
    few = Condition(mode="restore", steps=(NarrowBand(rate=8_000), Codec(codec="mp3", kbps=32), Clip(share=0.1)))
    assert conditions.described("few", few)["title"] == (
        "8 kHz source, MP3 at 32 kbit/s, clipped"
    )


def test_without_a_condition_a_recording_is_decoded_and_resampled(client: TestClient) -> None:
    data = audio.encode(sound(16_000, channels=2), 16_000)
    signal, _ = audio.decode(data)
    answer = post(client, data, condition="none")
    heard, rate = audio.decode(answer.content)
    assert rate == RATE
    assert np.abs(heard - audio.resample(signal, 16_000, RATE)).max() < 2 / 32768
    whole = audio.encode(sound(RATE), RATE)
    assert np.array_equal(audio.decode(post(client, whole).content)[0], audio.decode(whole)[0])


@pytest.mark.parametrize("name", [*conditions.known()])
def test_condition_does_what_the_line_does_and_twice_the_same(client: TestClient, name: str) -> None:
    signal = sound(RATE, channels=2)
    data = audio.encode(signal, RATE)
    answer = post(client, data, condition=name, format="flac")
    assert answer.status_code == 200
    rng = degrade.generator(SEED, name)
    received, rate, cutoff = degrade.received(
        conditions.known()[name].steps, audio.decode(data)[0], RATE, rng, (conditions.recorded_noise(),)
    )
    worse = audio.fit_length(audio.resample(received, rate, RATE), signal.shape[1])
    assert np.abs(audio.decode(answer.content)[0] - np.clip(worse, -1, 1)).max() < 2 / 32768
    assert answer.headers["x-overtone-cutoff-hz"] == f"{cutoff:.0f}"
    assert post(client, data, condition=name, format="flac").content == answer.content


def test_bad_requests_are_refused_in_a_sentence(client: TestClient) -> None:
    whole = audio.encode(sound(), 16_000)
    buffer = io.BytesIO()
    with audio.Writer(buffer, 16_000, 1, "WAV", "FLOAT") as file:
        file.write(np.full((1, 100), np.nan, np.float32))
    silent = audio.encode(np.zeros((1, 0), np.float32), RATE)
    for data, query, status, words in (
        (b"hello", {}, 415, "not readable as audio"),
        (b"", {}, 422, "empty"),
        (silent, {}, 422, "holds no samples"),
        (buffer.getvalue(), {"condition": "sinc_8k"}, 422, "no numbers"),
        (whole, {"condition": "worse"}, 404, "there is no condition 'worse'"),
        (whole, {"format": "aac"}, 422, "format"),
    ):
        answer = post(client, data, **query)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
        assert "Traceback" not in answer.text


def test_long_recordings_are_decoded_and_not_damaged(client: TestClient) -> None:
    long = audio.encode(np.zeros((1, round((MAX_DAMAGED_SECONDS + 1) * 8_000)), np.float32), 8_000)
    assert audio.probe(io.BytesIO(post(client, long).content)).seconds == MAX_DAMAGED_SECONDS + 1
    answer = post(client, long, condition="sinc_8k")
    assert (answer.status_code, "at most 300 s" in answer.json()["detail"]) == (413, True)
    assert post(client, audio.encode(np.zeros((1, 8_000 * 401), np.float32), 8_000)).status_code == 413


def test_page_names_only_files_that_there_are() -> None:
    import re

    folder = SAMPLES.parent
    for file in (*folder.glob("*.js"), folder / "index.html", folder / "style.css"):
        text = file.read_text()
        named = re.findall(r'(?:from|import) "\./([\w.]+)"|(?:href|src)="page/([\w.]+)"|new URL\("([\w.]+)"', text)
        for name in (one for found in named for one in found if one):
            assert (folder / name).is_file(), f"{file.name}: {name}"
        assert not re.search(r"https?://(?!www\.w3\.org)", text), file.name
