"""Laws of `from overtone import Upsampler`: the kind that went in comes out, names are resolved, threads do not meet."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import overtone
from conftest import ROOT, ModelMaker
from overtone import Profile, Upsampler, audio
from overtone.audio import AudioError, arrays
from overtone.errors import OvertoneError


@pytest.fixture
def upsampler(make_model: ModelMaker) -> Upsampler:
    return Upsampler.load(make_model())


def noise(*shape: int) -> Any:
    return 0.1 * np.random.default_rng(1).standard_normal(shape)


# --- names --------------------------------------------------------------------------------------------------------------


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, overtone; print({'torch', 'numpy'} & set(sys.modules)); overtone.Upsampler"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    with pytest.raises(AttributeError, match="no attribute 'Downsampler'"):
        overtone.Downsampler  # type: ignore[attr-defined] # noqa: B018


def test_names_lead_to_models(make_model: ModelMaker) -> None:
    folder = make_model()
    assert Upsampler.load(folder).name == str(folder)
    assert Upsampler.load(str(folder)).name == str(folder)
    released = Upsampler.load("released")
    assert (released.name, Upsampler.load().name) == ("released", "released")
    assert released.config != Upsampler.load("released-rnn").config
    with pytest.raises(OvertoneError):
        Upsampler.load(Path("released"))


def test_version_that_the_registry_lacks_is_explained(project: Path) -> None:
    with pytest.raises(OvertoneError, match="no such model in sqlite"):
        Upsampler.load(7)


# --- kinds --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(800,), (1, 800), (2, 800), (5, 800), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_kind_that_went_in_comes_out(upsampler: Upsampler, shape: tuple[int, ...], dtype: str, kind: str) -> None:
    values = noise(*shape) * (32_768 if dtype == "int16" else 1)
    given = values.astype(dtype) if kind == "numpy" else torch.from_numpy(values.astype(dtype))
    before: Any = given.copy() if isinstance(given, np.ndarray) else given.clone()
    out = upsampler.enhance(given, 16_000)
    assert type(out) is type(given)
    assert (tuple(out.shape), out.dtype) == ((*shape[:-1], 3 * shape[-1]), given.dtype)
    assert np.array_equal(given, before), "what was given is left alone"


def test_all_kinds_give_the_same_sound(upsampler: Upsampler) -> None:
    signal = np.round(noise(2, 900) * 32_768).astype(np.int16)
    exact = (signal / np.float32(32_768)).astype(np.float32)
    wanted = upsampler.enhance(exact, 16_000)
    np.testing.assert_array_equal(upsampler.enhance(exact.astype(np.float64), 16_000), wanted)
    np.testing.assert_array_equal(upsampler.enhance(torch.from_numpy(exact), 16_000.0), wanted)  # type: ignore[arg-type]
    np.testing.assert_array_equal(upsampler.enhance(exact[0], 16_000), upsampler.enhance(exact[:1], 16_000)[0])
    np.testing.assert_allclose(upsampler.enhance(signal, 16_000) / 32_768, wanted, atol=0.5001 / 32_768)


def test_tensor_with_gradients_is_taken_and_given_back_without(upsampler: Upsampler) -> None:
    out = upsampler.enhance(torch.zeros(700, requires_grad=True), 48_000)
    assert not out.requires_grad


def test_16_bit_is_clipped_and_never_wraps() -> None:
    loud = np.array([[1.5, -1.5, 1.0, -1.0]], np.float32)
    assert arrays.Kind(dtype=np.dtype(np.int16)).closed(loud).tolist() == [[32_767, -32_768, 32_767, -32_768]]


@pytest.mark.parametrize(
    ("given", "rate", "message"),
    [
        ([0.0, 0.1], 8_000, "expected a NumPy array or a torch tensor, got list"),
        (np.zeros(9, np.int32), 8_000, "expected samples of float32, float64 or int16, got int32"),
        (
            torch.zeros(9, dtype=torch.bfloat16),
            8_000,
            "expected samples of float32, float64 or int16, got torch.bfloat16",
        ),
        (np.zeros((1, 2, 3)), 8_000, r"expected shape \(samples,\) or \(channels, samples\), got \(1, 2, 3\)"),
        (np.zeros((0, 9)), 8_000, r"expected shape .*, got \(0, 9\)"),
        (np.zeros((9_000, 2)), 8_000, r"expected \(channels, samples\), got \(9000, 2\): transpose it"),
        (np.full(9, 12_000.0), 8_000, "full scale 1.0, got a peak of 12000: divide 16-bit samples by 32768"),
        (np.full(9, np.nan), 8_000, "holds NaN or infinite samples"),
        (np.zeros(9), 0, "rate: expected a whole number of Hz above 0, got 0"),
        (np.zeros(9), 44_100.5, "rate: expected a whole number of Hz above 0, got 44100.5"),
    ],
)
def test_what_is_no_audio_is_explained(upsampler: Upsampler, given: Any, rate: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        upsampler.enhance(given, rate)


# --- streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "torch", "int16"])
def test_stream_gives_the_kind_of_its_blocks_and_the_whole_signal(upsampler: Upsampler, kind: str) -> None:
    signal: Any = noise(6_000).astype(np.float32)
    wanted = upsampler.stream(cutoff_hz=4_000.0)
    whole = np.concatenate([wanted.push(signal), wanted.finish()])
    given = {"numpy": signal, "torch": torch.from_numpy(signal), "int16": np.rint(signal * 32_768).astype(np.int16)}[
        kind
    ]
    stream = upsampler.stream(cutoff_hz=4_000.0)
    parts = [stream.push(given[start : start + 700]) for start in range(0, 6_000, 700)]
    parts.append(stream.finish())
    assert {(type(part), part.dtype, part.ndim) for part in parts} == {(type(given), given.dtype, 1)}
    joined = np.concatenate([np.asarray(part) for part in parts]) / (32_768 if kind == "int16" else 1)
    np.testing.assert_allclose(joined, whole, atol=2e-4 if kind == "int16" else 1e-5)


def test_stream_refuses_what_it_was_not_opened_for(upsampler: Upsampler) -> None:
    with pytest.raises(AudioError, match="block: expected 2 channels, as the stream has, got 1"):
        upsampler.stream(2, cutoff_hz=4_000.0).push(np.zeros(100, np.float32))
    with pytest.raises(AudioError, match="channels: expected 1 to 64, got 0"):
        upsampler.stream(0, cutoff_hz=4_000.0)
    with pytest.raises(AudioError, match="cutoff: expected at least"):
        upsampler.stream(cutoff_hz=10.0)


# --- profiles -----------------------------------------------------------------------------------------------------------


def test_profile_is_made_of_samples_and_files_and_given_as_either(upsampler: Upsampler, tmp_path: Path) -> None:
    sound = noise(2, 100_000).astype(np.float32)
    audio.write(tmp_path / "same-microphone.wav", sound, 44_100, "FLOAT")
    of_samples = upsampler.profile([(torch.from_numpy(sound), 44_100)])
    of_file = upsampler.profile([tmp_path / "same-microphone.wav"], "archive")
    assert (of_samples.name, of_file.name) == ("reference", "archive")
    np.testing.assert_allclose(of_samples.levels, of_file.levels, atol=0.051)
    of_file.save(tmp_path / "archive.json")
    assert np.array_equal(Profile.load(tmp_path / "archive.json").levels, of_file.levels)
    settings: dict[str, Any] = {"mode": "extend", "cutoff_hz": 8_000.0, "brightness_db": 2.0}
    plain, given, kept = (
        upsampler.enhance(sound[0, :9_000], 16_000, profile=one, **settings)
        for one in (None, of_file, str(tmp_path / "archive.json"))
    )
    assert np.array_equal(given, kept)
    assert not np.array_equal(given, plain)


def test_stream_takes_a_profile_and_brightness_too(upsampler: Upsampler) -> None:
    sound = noise(60_000).astype(np.float32)
    profile = upsampler.profile([(sound, 48_000)])
    parts = upsampler.stream(cutoff_hz=8_000.0, profile=profile, brightness_db=-3.0), sound[:9_000]
    made = np.concatenate([parts[0].push(parts[1]), parts[0].finish()])
    whole = upsampler.enhance(
        sound[:9_000], 48_000, mode="extend", cutoff_hz=8_000.0, profile=profile, brightness_db=-3.0
    )
    np.testing.assert_allclose(made, whole, atol=1e-5)


# --- threads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [False, True], ids=["torch", "graph"])
def test_threads_get_what_each_would_get_alone(make_model: ModelMaker, graph: bool) -> None:
    folder = make_model()
    if graph:
        from overtone.models import graphs

        graphs.export(folder)
    upsampler = Upsampler.load(folder, runtime="onnx" if graph else "torch")
    signals = [noise(1 + index % 2, 4_000 + 333 * index) for index in range(12)]
    alone = [upsampler.enhance(signal, 16_000, mode="restore") for signal in signals]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda signal: upsampler.enhance(signal, 16_000, mode="restore"), signals))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


# --- the page -----------------------------------------------------------------------------------------------------------


def test_every_example_of_the_page_runs(bare_project: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / "python.md").read_text(), re.DOTALL)
    assert len(blocks) >= 7
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/how-to/python.md", "exec"), names)
    assert audio.probe(bare_project / "new.flac").frames == 48_000


def test_example_of_the_readme_runs(bare_project: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"narrow": noise(1_600)}
    exec(compile(block, "README.md", "exec"), names)
    assert names["full_band"].shape == (4_800,)
