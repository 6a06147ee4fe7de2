"""Laws of the script that builds the corpus of the released models: clips of the right length, and an index that is true."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from overtone import audio

RATE = 44_100
RELEASED = ROOT / "released"


@pytest.fixture
def gather(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(RELEASED))
    return importlib.import_module("gather")


def noise(seconds: float, rate: int = RATE, seed: int = 0, edge: float = 24_000.0) -> audio.Signal:
    """Noise (1, samples) of level 0.1 up to `edge` Hz."""
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / rate) > edge] = 0
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)[None]


def prompt(seconds: float, seed: int, rate: int = RATE, edge: float = 24_000.0, hiss: float = 1e-3) -> audio.Signal:
    """Bursts of noise up to `edge` Hz over a steady hiss of all frequencies, with a second of the hiss at both ends."""
    bursts = noise(seconds, rate, seed, edge) * (np.sin(9 * np.arange(round(seconds * rate)) / rate) > 0)
    quiet = hiss * 10 * noise(seconds + 2, rate, seed + 1000)
    return quiet + np.pad(bursts, ((0, 0), (rate, quiet.shape[1] - bursts.shape[1] - rate)))


def build(gather: Any, tmp_path: Path, kind: str, minutes: float = 25.0) -> list[dict[str, str]]:
    source = gather.Source(kind, "one", "chain", "origin", "*.wav", minutes, "CC0")
    rows: list[dict[str, str]] = gather.build_source(tmp_path / "out", (source, tmp_path))
    return rows


def test_prompts_become_clips_of_at_most_twelve_seconds_without_their_silences(gather: Any, tmp_path: Path) -> None:
    for index in range(12):
        audio.write(tmp_path / f"{index}.wav", prompt(3.0, index), RATE)
    rows = build(gather, tmp_path, "speech")
    lengths = [audio.probe(tmp_path / "out" / row["path"]).seconds for row in rows]
    assert max(lengths) <= 12.01
    assert 12 * 2.5 < sum(lengths) < 12 * 3.5
    assert [float(row["seconds"]) for row in rows] == pytest.approx(lengths, abs=0.01)


def test_clips_are_mono_at_48_khz(gather: Any, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", np.repeat(prompt(3.0, 1), 2, axis=0), RATE)
    (row,) = build(gather, tmp_path, "speech")
    signal, rate = audio.read(tmp_path / "out" / row["path"])
    assert (signal.shape[0], rate, row["native_rate"]) == (1, 48_000, str(RATE))


def test_telephone_speech_is_left_out(gather: Any, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", prompt(3.0, 1, rate=8_000), 8_000)
    assert build(gather, tmp_path, "speech") == []


def test_bandwidth_ends_where_the_resampler_does_and_the_sound_where_the_voice_does(
    gather: Any, tmp_path: Path
) -> None:
    audio.write(tmp_path / "a.wav", prompt(5.0, 1, edge=9_000.0, hiss=0.01), RATE)
    (row,) = build(gather, tmp_path, "speech")
    assert float(row["bandwidth_hz"]) == pytest.approx(0.95 * RATE / 2, abs=1)
    assert float(row["sound_edge_hz"]) == pytest.approx(9_000, abs=500)


def test_hiss_that_an_encoder_drops_from_some_frames_is_no_sound(gather: Any) -> None:
    voice = prompt(8.0, 1, rate=48_000, edge=6_000.0, hiss=0.01)
    below = np.fft.rfft(voice)
    below[:, np.fft.rfftfreq(voice.shape[1], 1 / 48_000) > 15_000] = 0
    low = np.fft.irfft(below, voice.shape[1])
    kept = np.repeat(np.random.default_rng(1).random(100) > 0.3, 4_800)
    assert gather.sound_edge((low + (voice - low) * kept)[0], 48_000) == pytest.approx(6_000, abs=500)


def test_a_source_gives_no_more_than_its_minutes_and_a_piece_is_heard_from_end_to_end(
    gather: Any, tmp_path: Path
) -> None:
    ramp = np.linspace(0.1, 1.0, 120 * RATE, dtype=np.float32)
    audio.write(tmp_path / "piece.wav", noise(120.0) * ramp, RATE)
    rows = build(gather, tmp_path, "music", minutes=1.0)
    assert sum(float(row["seconds"]) for row in rows) == pytest.approx(60, abs=0.1)
    assert {row["piece"] for row in rows} == {"piece"}
    last, _ = audio.read(tmp_path / "out" / rows[-1]["path"])
    assert np.std(last) > 0.09


def test_long_noise_is_kept_to_thirty_seconds_and_short_noise_joined(gather: Any, tmp_path: Path) -> None:
    audio.write(tmp_path / "rain.wav", noise(40.0), RATE)
    for index in range(4):
        audio.write(tmp_path / f"step_{index}.wav", noise(0.5, seed=index), RATE)
    rows = build(gather, tmp_path, "noise")
    assert [(row["piece"], round(float(row["seconds"]))) for row in rows] == [("rain", 30), ("", 2)]


def test_every_source_has_one_row_with_its_licence() -> None:
    with (RELEASED / "sources.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [(row["kind"], row["source"]) for row in rows]
    assert len(set(names)) == len(names)
    assert {row["kind"] for row in rows} == {"speech", "music", "noise"}
    assert all(row["licence"] and row["files"] and float(row["minutes"]) <= 60 for row in rows)
