"""Laws of the arithmetic: results do not depend on batch, threads, runtime or precision beyond stated tolerances.

The tolerances are those of docs/explanation/reproducibility.md. Differences of waveforms are given as a share of the
loudest sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from overtone.audio import Signal
from overtone.enhance.upsampler import Mode, Upsampler
from overtone.models import envelope, gains, graphs
from overtone.models.folder import WEIGHTS
from overtone.models.model import Model
from overtone.models.session import open_graphs
from overtone.settings import Params

RATE = 48_000
# Single precision: batch, threads and runtime (see docs/explanation/reproducibility.md).
BATCH, THREADS, RUNTIME = 2e-6, 2e-6, 2e-5

Models = Callable[[str], Model]


@pytest.fixture(scope="module")
def model(params: Params) -> Models:
    """Models of random weights that change every frame."""

    def make(family: str) -> Model:
        torch.manual_seed(3)
        made = Model.untrained(family, params.train.bodies(family), RATE)
        with torch.no_grad():
            for network in made.networks.values():
                for weight in network.eval().parameters():
                    weight.add_(0.03 * torch.randn(weight.shape))
        return made

    return make


def noise(samples: int, channels: int = 1, seed: int = 0) -> Signal:
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)


def inputs(task: str, batch: int, frames: int = 60) -> list[Tensor]:
    """What a network is given, its state apart."""
    generator = torch.Generator().manual_seed(frames)
    features = {"extend": envelope.FEATURES, "restore": gains.FEATURES}[task]
    given = [torch.randn(batch, frames, features, generator=generator)]
    return [*given, torch.randn(batch, envelope.PROFILE, generator=generator)] if task == "extend" else given


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def off(one: Any, other: Any) -> float:
    """The largest difference of two arrays as a share of the largest value, of 1 where that is less."""
    first, second = np.asarray(one), np.asarray(other)
    assert first.shape == second.shape
    return float(np.abs(first - second).max(initial=0.0)) / max(1.0, float(np.abs(first).max(initial=0.0)))


@pytest.mark.parametrize("family", ["rnn", "cnn"])
@pytest.mark.parametrize("task", ["extend", "restore"])
def test_batch_gives_what_each_example_gives_alone(model: Models, family: str, task: str) -> None:
    network, given = model(family).networks[task], inputs(task, 5)
    with torch.inference_mode():
        together, _ = network(*given, network.body.initial(5))
        for row in range(5):
            alone, _ = network(*(part[row : row + 1] for part in given), network.body.initial(1))
            assert off(together[row : row + 1], alone) < 10 * BATCH


@pytest.mark.parametrize("family", ["rnn", "cnn"])
@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_threads_change_nothing_to_be_heard(model: Models, family: str, mode: Mode) -> None:
    outputs = []
    for count in (1, 2):
        with threads(count):
            outputs.append(Upsampler(model(family)).enhance(noise(20_000, 2), 16_000, mode=mode, cutoff_hz=8_000.0))
    assert off(*outputs) < THREADS


@pytest.mark.parametrize("family", ["rnn", "cnn"])
def test_graphs_give_what_torch_gives_however_cut(model: Models, tmp_path: Path, family: str) -> None:
    model(family).save(tmp_path)
    graphs.export(tmp_path)
    assert open_graphs(tmp_path) is not None
    plain, graph = (Upsampler.load(tmp_path, runtime=runtime) for runtime in ("torch", "onnx"))
    signal = noise(20_000, 2)
    for mode in ("extend", "restore"):
        expected = plain.enhance(signal, RATE, mode=mode, cutoff_hz=6_000.0)
        for size in (20_000, 1_023):
            stream = graph.stream(2, mode=mode, cutoff_hz=6_000.0)
            parts = [stream.push(signal[:, at : at + size]) for at in range(0, 20_000, size)]
            made = np.concatenate([*parts, stream.finish()], axis=1)
            assert off(expected, made) < RUNTIME


def test_weights_stored_as_halves_compute_as_their_cast(model: Models, tmp_path: Path) -> None:
    made = model("rnn")
    made.save(tmp_path, dtype=torch.float16)
    assert {value.dtype for value in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    loaded = Model.load(tmp_path)
    for task, network in made.networks.items():
        for name, value in network.state_dict().items():
            assert torch.equal(loaded.networks[task].state_dict()[name], value.half().float())


@pytest.mark.parametrize("family", ["rnn", "cnn"])
@pytest.mark.parametrize("task", ["extend", "restore"])
def test_slope_of_a_network_is_that_of_its_differences(model: Models, family: str, task: str) -> None:
    """Along a random direction of all weights, in double precision."""
    network = model(family).networks[task].double()
    given = [part.double() for part in inputs(task, 2, frames=20)]
    state = [part.double() for part in network.body.initial(2)]

    def loss() -> Tensor:
        value: Tensor = network(*given, state)[0].square().mean()
        return value

    torch.autograd.backward(loss())
    generator = torch.Generator().manual_seed(2)
    weights = [weight for weight in network.parameters() if weight.grad is not None]
    ways = [torch.randn(weight.shape, generator=generator, dtype=torch.float64) for weight in weights]
    expected = math.fsum(
        float((weight.grad * way).sum()) for weight, way in zip(weights, ways, strict=True) if weight.grad is not None
    )
    step, values = 1e-6, []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, way in zip(weights, ways, strict=True):
                weight.add_(sign * step * way)
            values.append(float(loss()))
    found = (values[0] - values[1]) / (2 * step)
    assert math.isclose(found, expected, rel_tol=1e-3), (found, expected)
