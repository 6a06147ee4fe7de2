"""Laws of the arithmetic: results do not depend on batch, block, threads, runtime or precision beyond stated tolerances.

The tolerances are those of docs/numerics.md. Differences of waveforms are told as a share of the loudest sample.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from overtone.models.spectral import SpectralUpsampler
from overtone.upsample import Mode, Upsampler
from safetensors.torch import load_file
from torch import Tensor

from conftest import ROOT
from overtone import losses, upsample
from overtone.audio import Signal
from overtone.evaluation import metrics
from overtone.models import build, export
from overtone.params import LossParams, Params
from test_training import train

RATE = 48_000
# Single precision: batch, block, threads and runtime (see docs/numerics.md).
BATCH, BLOCK, THREADS, RUNTIME = 2e-6, 1e-5, 2e-6, 2e-5
# Half precision of the computation: least SNR in dB, and most log-spectral distance, to single precision.
HALF_SNR_DB, HALF_LSD = 40.0, 0.3

Networks = Callable[[str], SpectralUpsampler]


@pytest.fixture(scope="module")
def network(params: Params) -> Networks:
    """Networks of random weights that change every frame of what they hear."""

    def make(kind: str) -> SpectralUpsampler:
        torch.manual_seed(3)
        made = build.network(params.train.cnn if kind == "cnn" else params.train.rnn, RATE).eval()
        with torch.no_grad():
            for weight in made.parameters():
                weight.add_(0.03 * torch.randn(weight.shape))
        return made

    return make


@pytest.fixture(scope="module", params=["rnn", "cnn"])
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released model, out of the repository's own DVC remote."""
    folder = tmp_path_factory.mktemp("released")
    (out,) = yaml.safe_load((ROOT / "released" / f"{request.param}.dvc").read_text())["outs"]

    def stored(digest: str) -> Path:
        return ROOT / "dvcstore" / "files" / "md5" / digest[:2] / digest[2:]

    for entry in json.loads(stored(out["md5"]).read_text()):
        (folder / entry["relpath"]).symlink_to(stored(entry["md5"]))
    return folder


def noise(samples: int, channels: int = 1, seed: int = 0) -> Signal:
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)


def speechlike(samples: int, seed: int = 0) -> Tensor:
    """Harmonics of a gliding voice with pauses, its breath falling with frequency. Shape: (1, samples)."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    turn = 2 * np.pi * np.cumsum(140 + 20 * np.sin(2 * np.pi * time)) / RATE
    voice = sum(np.sin(k * turn) / k for k in range(1, 60)) + np.cumsum(rng.standard_normal(samples)) / 50
    loud = np.clip(np.sin(2 * np.pi * 3 * time), 0.0, None)
    return torch.from_numpy((0.2 * loud * voice / np.abs(voice).max()).astype(np.float32))[None]


def inputs(count: int, samples: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Signals of different levels, cutoffs and modes."""
    level = torch.logspace(-3, 0, count)[:, None]
    cutoffs = torch.tensor([4e3, 8e3, 12e3, 16e3, 24e3]).repeat(count)[:count]
    signals = level * torch.from_numpy(noise(samples, count))
    return signals, cutoffs, torch.arange(count) % 2 == 0, (torch.rand(count, samples) < 0.01).float()


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def off(one: Any, other: Any) -> float:
    """The largest difference of two waveforms as a share of the loudest sample, of full scale where that is less."""
    first, second = np.asarray(one), np.asarray(other)
    assert first.shape == second.shape
    return float(np.abs(first - second).max(initial=0.0)) / max(1.0, float(np.abs(first).max(initial=0.0)))


def pushed(upsampler: Upsampler, signal: Signal, sizes: list[int], mode: Mode, cutoff: float) -> Signal:
    stream = upsampler.stream(signal.shape[0], mode=mode, cutoff_hz=cutoff)
    parts, start, turn = [], 0, 0
    while start < signal.shape[1]:
        parts.append(stream.push(signal[:, start : start + sizes[turn % len(sizes)]]))
        start, turn = start + sizes[turn % len(sizes)], turn + 1
    return np.concatenate([*parts, stream.finish()], axis=1)


# --- batch, threads, blocks, runtime ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
def test_batch_gives_what_each_signal_gives_alone(network: Networks, kind: str) -> None:
    batch = inputs(7, 30_000)
    with torch.inference_mode():
        together = network(kind)(*batch)
        for row in range(7):
            alone = network(kind)(*(part[row : row + 1] for part in batch))
            assert off(together[row : row + 1], alone) < BATCH


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_threads_change_nothing_to_be_heard(network: Networks, kind: str, mode: Mode) -> None:
    outputs = []
    for count in (1, 2):
        with threads(count):
            outputs.append(Upsampler(network(kind), {}).enhance(noise(40_000, 2), 16_000, mode=mode))
    assert off(*outputs) < THREADS


@given(data=st.data())
def test_any_cutting_of_a_signal_gives_the_same(network: Networks, data: st.DataObject) -> None:
    kind, modes = data.draw(st.sampled_from(["rnn", "cnn"])), st.sampled_from(get_args(Mode))
    mode: Mode = data.draw(modes)
    channels = data.draw(st.integers(1, 3))
    samples = data.draw(st.one_of(st.integers(0, 1_500), st.integers(3_000, 16_000)))
    cutoff = data.draw(st.floats(200.0, 24_000.0))
    sizes = data.draw(st.lists(st.one_of(st.integers(1, 20), st.integers(1, 6_000)), min_size=1, max_size=8))
    # What is pushed sample by sample takes its time.
    samples = min(samples, 1_000 * max(sizes))
    upsampler, signal = Upsampler(network(kind), {}), noise(samples, channels, seed=samples)
    # A packet that was lost, for restoration to fill.
    signal[:, samples // 2 : samples // 2 + 960] = 0.0
    whole = pushed(upsampler, signal, [max(samples, 1)], mode, cutoff)
    assert whole.shape == signal.shape
    assert off(whole, pushed(upsampler, signal, sizes, mode, cutoff)) < BLOCK


@given(block=st.integers(1, 40_000), mode=st.sampled_from(["extend", "restore"]), kind=st.sampled_from(["rnn", "cnn"]))
@settings(max_examples=10)
def test_size_of_the_upsamplers_blocks_changes_nothing(network: Networks, block: int, mode: Mode, kind: str) -> None:
    upsampler, signal = Upsampler(network(kind), {}), noise(12_345, 2)
    whole = upsampler.enhance(signal, 16_000, mode=mode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upsample, "BLOCK", max(block, 100))
        assert off(whole, upsampler.enhance(signal, 16_000, mode=mode)) < BLOCK


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
def test_graph_gives_what_torch_gives_however_cut_and_on_any_threads(
    network: Networks, params: Params, tmp_path: Path, kind: str
) -> None:
    model = network(kind)
    build.save(
        model, tmp_path, "cnn" if kind == "cnn" else "rnn", params.train.cnn if kind == "cnn" else params.train.rnn
    )
    export.export(model, tmp_path)
    signal = noise(20_000, 2)
    for mode in ("extend", "restore"):
        plain = pushed(Upsampler(model, {}), signal, [20_000], mode, 6_000.0)
        for count in (1, 2):
            graph = Upsampler(model, {}, graph=export.Session(tmp_path / export.GRAPH, count))
            for sizes in ([20_000], [511, 4_000, 1]):
                assert off(plain, pushed(graph, signal, sizes, mode, 6_000.0)) < RUNTIME


# --- precision ----------------------------------------------------------------------------------------------------------


def test_released_weights_are_halves_and_compute_as_their_cast(released: Path) -> None:
    stored = load_file(released / build.WEIGHTS)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    loaded, config = build.load(released)
    cast = build.network(build.settings_of(config), RATE).eval()
    cast.load_state_dict({name: value.float() for name, value in stored.items()})
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in cast.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(loaded(*inputs(2, 20_000)[:3]), cast(*inputs(2, 20_000)[:3]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("restore", [False, True])
def test_released_models_sound_alike_in_half_precision(released: Path, dtype: torch.dtype, restore: bool) -> None:
    model, _ = build.load(released)
    signal = speechlike(2 * RATE)
    arguments = (signal, torch.tensor([6_000.0]), torch.tensor([restore]), torch.zeros_like(signal))
    with torch.inference_mode():
        whole = model(*arguments)
        with torch.autocast("cpu", dtype=dtype):
            half = model(*arguments)
    assert half.dtype == torch.float32
    assert float((whole - signal).abs().max()) > 1e-3
    ratio, distance = metrics.snr(half, whole), metrics.log_spectral_distance(half, whole, RATE)
    print(f"{dtype} restore={restore}: SNR {ratio:.1f} dB, LSD {distance:.3f}")
    assert ratio is not None and ratio > HALF_SNR_DB
    assert distance is not None and distance < HALF_LSD


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
def test_training_in_bfloat16_follows_the_curve_of_single_precision(
    tmp_path: Path, pairs_folder: Path, kind: build.Kind
) -> None:
    curves: list[pd.DataFrame] = []
    terms = ("train.loss.magnitude=1.0", "train.loss.phase=0.1", "train.loss.mse=0.3", "train.loss.error_ratio=1.5")
    for precision in ("32-true", "bf16-mixed"):
        overrides = (f"train.{kind}.steps=12", "train.loss.harm=1.0", *terms, f"train.fit.precision={precision}")
        curves.append(train(tmp_path / precision, pairs_folder, *overrides, kind=kind)[1])
    for name in ("train_loss", "valid_lsd"):
        whole, half = (curve[name].to_numpy() for curve in curves)
        print(f"{kind} {name}: {np.abs(half / whole - 1).max():.4f}")
        np.testing.assert_allclose(half, whole, rtol=0.02)
    model, _ = build.load(tmp_path / "bf16-mixed" / "model")
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


# --- gradients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ["log_spectral", "magnitude", "phase", "mse", "error_ratio", "harm"])
def test_slope_of_each_loss_is_that_of_its_differences(term: str) -> None:
    weights = dict.fromkeys(("log_spectral", "magnitude", "phase", "mse", "error_ratio", "harm"), 0.0)
    chosen = LossParams(**(weights | {term: 1.0}), beyond=0.5, windows=(32, 64), shift=False)
    generator = torch.Generator().manual_seed(1)
    prediction, target, given = (0.1 * torch.randn(2, 160, generator=generator, dtype=torch.float64) for _ in range(3))
    # What is to be repaired is worse than the input: else the term is flat.
    given = target + 0.1 * given
    limits, wanted = torch.tensor([24_000.0, 12_000.0]), torch.tensor([True, True])

    def loss(signal: Tensor) -> Tensor:
        return losses.total(signal, target, given, wanted, limits, RATE, chosen)[0]

    assert torch.autograd.gradcheck(loss, (prediction.requires_grad_(),), eps=1e-7, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
def test_slope_of_the_network_is_that_of_its_differences(network: Networks, kind: str) -> None:
    """Along a random direction of all weights, in double precision."""
    model = network(kind).double().train()
    signal, cutoff, restore, concealed = inputs(3, 6_000)
    signal, concealed = signal.double(), concealed.double()

    def loss() -> Tensor:
        # Where there is nothing, a square is not what the ear hears, and a slope would be lost in the loudest signal's.
        value: Tensor = torch.log(model(signal, cutoff, restore, concealed).square().mean(-1)).sum()
        return value

    torch.autograd.backward(loss())
    generator = torch.Generator().manual_seed(2)
    ways = [torch.randn(weight.shape, generator=generator, dtype=torch.float64) for weight in model.parameters()]
    slopes = [weight.grad for weight in model.parameters() if weight.grad is not None]
    told = math.fsum(float((slope * way).sum()) for slope, way in zip(slopes, ways, strict=True))
    step, values = 1e-7, []
    for sign in (1, -1):
        with torch.no_grad():
            for weight, way in zip(model.parameters(), ways, strict=True):
                weight.add_(sign * step * way)
            values.append(float(loss()))
            for weight, way in zip(model.parameters(), ways, strict=True):
                weight.sub_(sign * step * way)
    found = (values[0] - values[1]) / (2 * step)
    assert math.isclose(found, told, rel_tol=1e-3), (found, told)
