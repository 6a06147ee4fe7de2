"""Laws of putting two beside each other: equal is equal, late is told, the better is better; the rest is explained."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import ModelMaker
from overtone import audio, cli
from overtone.audio import AudioError, Signal
from overtone.enhance.upsampler import Upsampler
from overtone.errors import OvertoneError
from overtone.evaluation import comparison

RATE = 48_000


def hiss(seconds: float = 1.0) -> Signal:
    return (0.1 * np.random.default_rng(4).standard_normal((1, round(seconds * RATE)))).astype(np.float32)


@pytest.fixture
def original(bare_project: Path) -> Path:
    audio.write(bare_project / "original.wav", hiss(), RATE)
    return bare_project / "original.wav"


def test_equal_files_have_no_distance(original: Path) -> None:
    audio.write(original.with_name("copy.flac"), audio.read(original)[0], RATE)
    row = comparison.files(original, original.with_name("copy.flac")).rows[str(original.with_name("copy.flac"))]
    assert (row["lsd"], row["snr"], row["si_sdr"], row["level_db"]) == (0.0, 100.0, 100.0, 0.0)


def test_level_and_noise_are_what_was_done(original: Path) -> None:
    audio.write(original.with_name("soft.wav"), 0.5 * hiss(), RATE, "FLOAT")
    row = comparison.files(original, original.with_name("soft.wav")).rows[str(original.with_name("soft.wav"))]
    assert row["level_db"] == pytest.approx(-6.02, abs=0.01)
    assert row["snr"] == pytest.approx(6.02, abs=0.01)
    assert row["lsd"] == pytest.approx(2 * np.log10(2), abs=0.01)


@pytest.mark.parametrize("lag", [1_105, -480])
def test_late_file_is_compared_without_its_lag_and_told(original: Path, lag: int) -> None:
    signal = hiss()
    moved = np.pad(signal, ((0, 0), (lag, 0))) if lag > 0 else signal[:, -lag:]
    audio.write(original.with_name("late.wav"), moved, RATE)
    found = comparison.files(original, original.with_name("late.wav"))
    assert found.rows[str(original.with_name("late.wav"))]["snr"] > 15.0  # type: ignore[operator]
    assert f"{1000 * lag / RATE:+.2f} ms late" in found.remarks[0]


def test_reference_judges_both(original: Path) -> None:
    for name, level in (("near.wav", 0.001), ("far.wav", 0.03)):
        noise = np.random.default_rng(9).standard_normal(hiss().shape) * level
        audio.write(original.with_name(name), (hiss() + noise).astype(np.float32), RATE)
    rows = comparison.files(original.with_name("near.wav"), original.with_name("far.wav"), original).rows
    near, far = (rows[str(original.with_name(name))]["snr"] for name in ("near.wav", "far.wav"))
    assert near > far + 20  # type: ignore[operator]


@pytest.mark.parametrize("options", [[], ["--picture", "both.png"]])
def test_command_compares_files_and_draws_what_is_asked_for(original: Path, options: list[str]) -> None:
    audio.write(original.with_name("b.flac"), audio.resample(hiss(), RATE, 16_000), 16_000)
    before = set(Path().iterdir())
    done = CliRunner().invoke(cli.app, ["compare", "original.wav", "b.flac", *options])
    assert done.exit_code == 0, done.output
    assert "bandwidth_hz" in done.output
    assert {str(path) for path in set(Path().iterdir()) - before} == set(options[1:])
    assert all(Path(name).read_bytes()[:4] == b"\x89PNG" for name in options[1:])


def test_command_compares_models_on_a_file(original: Path, make_model: ModelMaker) -> None:
    first, second = make_model("a", seed=1), make_model("b", seed=2)
    command = ["compare", str(first), str(second), "--on", "original.wav", "--picture", "m.png"]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    assert done.output.count("original.wav:") == 3
    assert Path("m.png").exists()


def test_models_are_compared_on_test_pairs(pairs_folder: Path, make_model: ModelMaker) -> None:
    tasks = comparison.pairs(pairs_folder, clips=1)
    assert {task.name for task in tasks} == {"sinc_8k", "noise_10db"}
    seen: list[tuple[int, int]] = []
    names = [str(make_model("a", seed=1)), str(make_model("b", seed=2))]
    systems = {name: Upsampler.load(Path(name)) for name in names}
    found = comparison.models(systems, tasks, lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]
    assert set(found.rows) == {
        f"{group}: {name}" for group in ("sinc_8k", "noise_10db", "all") for name in ("input", *names)
    }
    means = [found.rows[f"{group}: input"]["lsd"] for group in ("sinc_8k", "noise_10db", "all")]
    assert means[2] == pytest.approx((means[0] + means[1]) / 2)  # type: ignore[operator]


def test_what_cannot_be_compared_is_explained(original: Path, make_model: ModelMaker) -> None:
    audio.write(original.with_name("two.wav"), np.repeat(hiss(), 2, axis=0), RATE)
    audio.write(original.with_name("low.wav"), audio.resample(hiss(), RATE, 8_000), 8_000)
    with pytest.raises(AudioError, match="has 2 channels"):
        comparison.files(original, original.with_name("two.wav"))
    with pytest.raises(AudioError, match="expected different files"):
        comparison.files(original, original)
    with pytest.raises(AudioError, match=r"has nothing above \d+ Hz"):
        comparison.narrowed([original.with_name("low.wav")], 8_000.0)
    with pytest.raises(OvertoneError, match="expected two different models"):
        comparison.models({"released": Upsampler.load(make_model())}, [], lambda *_: None)
    with pytest.raises(OvertoneError, match="expected two files or two models"):
        CliRunner().invoke(cli.app, ["compare", "original.wav", "released"], catch_exceptions=False)


def test_command_inspects_as_text_and_json(original: Path) -> None:
    done = CliRunner().invoke(cli.app, ["inspect", "original.wav", "--picture", "o.png"])
    assert done.exit_code == 0, done.output
    assert "original.wav: 48000 Hz, 1 channel, 1.00 s, WAV PCM_16" in done.output
    assert Path("o.png").exists()
    lines = CliRunner().invoke(cli.app, ["inspect", "original.wav", "original.wav", "--json"]).output.splitlines()
    assert [json.loads(line)["rate"] for line in lines] == [RATE, RATE]


def test_shell_completes_commands_and_models(environment: Mapping[str, str], make_model: ModelMaker) -> None:
    make_model("mine")

    def offered(words: str) -> set[str]:
        asked = {"_OVERTONE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        path = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        done = subprocess.run(
            ["overtone"], env={**environment, **asked, **path}, capture_output=True, text=True, check=False
        )
        return set(done.stdout.split())

    assert {"inspect", "compare", "enhance"} <= offered("overtone ")
    assert offered("overtone enhance --model rel") == {"released", "released-rnn"}
    assert offered("overtone enhance --model models/") == {"models/mine"}
