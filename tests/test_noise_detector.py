"""Laws of the network that finds noise behind a voice: it computes what was trained, and tells real voices and music apart."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from conftest import ROOT
from overtone import audio
from overtone.audio import Signal
from overtone.data.noise import mix
from overtone.dsp import noise_detector
from overtone.dsp.noise_detector import noise_behind_voice

RATE = 48_000
STORE = ROOT / "dvcstore" / "files" / "md5"
# Of the validation split, which the network has not learned from.
VOICES = ("speech/cs_klettres/", "speech/ptBR_klettres/", "speech/en_vctk/en_vctk_p362", "speech/en_vctk/en_vctk_p363")
MUSIC, NOISE = "music/acoustic_lomiri/", ("noise/water/shower_homedecor", "noise/traffic/traffic_lincity")


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "released"))
    return importlib.import_module("train_detector")


@pytest.fixture(scope="module")
def starter() -> Any:
    """Reads six seconds of the first `count` files of the starter corpus whose paths begin so, out of the DVC remote."""
    (out,) = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]
    entries = json.loads((STORE / out["md5"][:2] / out["md5"][2:]).read_text())

    def read(prefix: str, count: int) -> list[Signal]:
        found = sorted((entry["relpath"], entry["md5"]) for entry in entries if entry["relpath"].startswith(prefix))
        assert found, prefix
        return [_six_seconds(STORE / digest[:2] / digest[2:]) for _, digest in found[:count]]

    return read


def _six_seconds(path: Path) -> Signal:
    signal, rate = audio.read(path)
    mono = audio.resample(signal[:, : 6 * rate].mean(axis=0, keepdims=True), rate, RATE)
    return np.resize(mono, (1, 6 * RATE))


def test_numpy_computes_the_trained_network(training: Any) -> None:
    torch.manual_seed(0)
    network = training.Network()
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    given = np.random.default_rng(0).normal(0, 1, (90, noise_detector.BANDS)).astype(np.float32)
    with torch.no_grad():
        odds, ratio = network(torch.from_numpy(given[None]))[0].tolist()
    assert noise_detector.odds([given], weights) == pytest.approx((odds, noise_detector.SCALE_DB * ratio), abs=1e-4)


def test_real_voices_in_noise_are_found_and_clean_ones_are_not(starter: Any) -> None:
    voices = [voice for prefix in VOICES for voice in starter(prefix, 3)]
    noises = [noise for prefix in NOISE for noise in starter(prefix, 1)]
    assert sum(noise_behind_voice([voice], RATE) < math.inf for voice in voices) <= 1
    found = [noise_behind_voice([mix(v, n, snr)], RATE) for v in voices for n in noises for snr in (0.0, 5.0, 10.0)]
    assert np.mean(np.isfinite(found)) > 0.85


def test_music_is_no_noise_and_its_hiss_no_noise_behind_a_voice(starter: Any) -> None:
    hiss = np.random.default_rng(0).standard_normal((1, 6 * RATE)).astype(np.float32)
    pieces = starter(MUSIC, 5)
    assert [noise_behind_voice([piece], RATE) for piece in pieces] == [math.inf] * 5
    assert sum(noise_behind_voice([mix(piece, hiss, 20.0)], RATE) < math.inf for piece in pieces) <= 1


@pytest.mark.parametrize("snr", [0.0, 10.0])
def test_the_ratio_is_measured(starter: Any, snr: float) -> None:
    voices, (noise,) = starter("speech/en_vctk/en_vctk_p36", 3), starter(NOISE[1], 1)
    found = [noise_behind_voice([mix(voice, noise, snr)], RATE) for voice in voices]
    assert np.median(found) == pytest.approx(snr, abs=5.0)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_the_rate_of_a_recording_makes_no_difference(starter: Any, rate: int) -> None:
    voice, noise = starter(VOICES[2], 1)[0], starter(NOISE[1], 1)[0]
    noisy, clean = (audio.resample(one, RATE, rate) for one in (mix(voice, noise, 5.0), voice))
    assert noise_behind_voice([noisy], rate) < math.inf == noise_behind_voice([clean], rate)


@pytest.mark.parametrize("samples", [0, 100, 4_000])
def test_what_is_too_short_or_silent_holds_no_voice(samples: int) -> None:
    hiss = np.random.default_rng(0).standard_normal((1, samples)).astype(np.float32)
    assert noise_behind_voice([hiss], RATE) == noise_behind_voice([np.zeros((2, RATE), np.float32)], RATE) == math.inf
