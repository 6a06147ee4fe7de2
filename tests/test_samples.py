"""Laws of what the server offers to try a model on: samples, conditions, recordings made worse."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from conftest import ROOT
from overtone import audio
from overtone import settings as params
from overtone.data import degrade
from overtone.serving import conditions
from overtone.serving.conditions import MAX_DAMAGED_SECONDS, RATE, SAMPLES, SEED
from overtone.serving.errors import Refused
from overtone.settings import BitErrors, Clip, Codec, Condition, NarrowBand, Noise, PacketLoss, Quantise
from test_http import client as client
from test_http import options as options  # fixtures
from test_http import sound


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
    assert elsewhere[1] == {"name": "sinc_8k", "mode": "extend", "title": "8 kHz source"}


def test_every_step_has_words() -> None:
    steps = (NarrowBand(rate=8_000), Codec(codec="mp3", kbps=32), PacketLoss(share=0.1), BitErrors(rate=0.01))
    many = Condition(mode="restore", steps=(*steps, Noise(snr_db=3), Clip(share=0.1), Quantise(bits=6)))
    assert conditions.described("many", many)["title"] == (
        "8 kHz source, MP3 at 32 kbit/s, 10% lost packets, bit errors, 1.00%, noise at 3 dB, "
        "clipped at 10% of its samples, 6 bit"
    )


@pytest.mark.parametrize("name", ["sinc_8k", "mp3_stereo_64k", "loss_8k_zero", "noise_10db"])
def test_condition_does_what_the_pipeline_does_and_twice_the_same(name: str, tmp_path: Path) -> None:
    signal = sound(RATE, channels=2)
    data = audio.encode(signal, RATE, subtype="FLOAT")
    for target in ("one.wav", "two.wav"):
        conditions.write(io.BytesIO(data), name, tmp_path / target, 300.0)
    noise = (conditions.recorded_noise(),)
    steps, rng = conditions.known()[name].steps, degrade.generator(SEED, name)
    received, rate, _ = degrade.received(steps, signal, RATE, rng, noise)
    expected = audio.fit_length(audio.resample(received, rate, RATE), signal.shape[1])
    one, two = (audio.read(tmp_path / name)[0] for name in ("one.wav", "two.wav"))
    assert np.allclose(one, expected, atol=1e-6)
    assert np.array_equal(one, two)


def test_what_cannot_be_made_worse_is_refused_in_a_sentence(tmp_path: Path) -> None:
    long = audio.encode(np.zeros((1, round((MAX_DAMAGED_SECONDS + 1) * 8_000)), np.float32), 8_000)
    broken = audio.encode(np.full((1, 100), np.nan, np.float32), 16_000, subtype="FLOAT")
    for data, name, sentence in (
        (long, "sinc_8k", "at most 300 s"),
        (b"hello", "sinc_8k", "not readable as audio"),
        (b"hello", "worse", "there is no condition 'worse'"),
        (broken, "sinc_8k", "no numbers"),
    ):
        with pytest.raises((Refused, audio.AudioError)) as caught:
            conditions.write(io.BytesIO(data), name, tmp_path / "x.wav", 1_000.0)
        assert sentence in str(getattr(caught.value, "detail", caught.value))


def test_page_names_only_files_that_there_are() -> None:
    folder = SAMPLES.parent
    for file in (*folder.glob("*.js"), folder / "index.html", folder / "style.css"):
        text = file.read_text()
        named = re.findall(r'(?:from|import) "\./([\w.]+)"|(?:href|src)="page/([\w.]+)"|new URL\("([\w.]+)"', text)
        for name in (one for found in named for one in found if one):
            assert (folder / name).is_file(), f"{file.name}: {name}"
        assert not re.search(r"https?://(?!www\.w3\.org)", text), file.name
