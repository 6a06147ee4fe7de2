"""Laws of the graph: it computes what the network does, belongs to its weights, and enhances alike in its place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from overtone.audio import Signal
from overtone.models import build, export
from overtone.models.build import ModelError
from overtone.models.spectral import BINS, SpectralUpsampler, origins, visible_bins
from overtone.params import CnnParams, Params, RnnParams
from overtone.upsample import Mode, Runtime, Upsampler

RATE = 48_000
STEP = 1 / 32_768
VARIANTS: dict[str, dict[str, Any]] = {
    "gru": {"kind": "rnn", "layers": 2, "hidden": 24},
    "lstm": {"kind": "rnn", "cell": "lstm", "layers": 2, "phase": "free"},
    "both ways": {"kind": "rnn", "bidirectional": True},
    "cnn": {"kind": "cnn", "depths": (1, 1, 1)},
    "max": {"kind": "cnn", "pooling": "max", "phase": "mixed"},
}
CARRYING = ("gru", "lstm")


def save(params: Params, folder: Path, variant: str = "gru", seed: int = 5) -> SpectralUpsampler:
    """A model folder of random weights."""
    changes = {**VARIANTS[variant]}
    kind: build.Kind = changes.pop("kind")
    settings: CnnParams | RnnParams = params.train.cnn if kind == "cnn" else params.train.rnn
    settings = settings.model_copy(update=changes)
    torch.manual_seed(seed)
    model = build.network(settings, RATE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    build.save(model, folder, kind, settings)
    return model


@pytest.fixture(scope="module", params=VARIANTS)
def folder(request: pytest.FixtureRequest, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with its graph, of each variant."""
    folder: Path = tmp_path_factory.mktemp("export") / request.param
    assert export.export(save(params, folder, request.param), folder) == folder / "model.onnx"
    return folder


@pytest.fixture(scope="module")
def plain(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    export.export(save(params, folder), folder)
    return folder


def opened(folder: Path) -> export.Session:
    session = export.open_graph(folder)
    assert session is not None
    return session


def spectra(frames: int, channels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real, imag = (torch.randn(channels, frames, BINS, generator=generator) for _ in range(2))
    return real, imag


def shares(frames: int, channels: int) -> Tensor:
    """How much of each frame is concealed: of the first and of some others nothing, of others all."""
    share = 2 * torch.rand(channels, frames, generator=torch.Generator().manual_seed(9)) - 0.5
    share[:, :3] = 0.0
    return share.clamp(0.0, 1.0)


def noise(samples: int, channels: int = 1, level: float = 0.1, seed: int = 0) -> Signal:
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal((channels, samples))).astype(np.float32)


def peak(signal: Signal) -> float:
    return float(np.abs(signal).max(initial=0.0))


# --- the graph ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2, 5, 31, 130])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("restore", [False, True])
def test_graph_is_the_network_at_any_length(folder: Path, blocks: int, channels: int, restore: bool) -> None:
    model, _ = build.load(folder)
    real, imag = spectra(blocks * model.body.alignment, channels)
    seen = visible_bins(torch.tensor([4_000.0, 24_000.0][:channels]), RATE)
    modes = torch.tensor([restore, not restore][:channels])
    concealed = shares(real.shape[1], channels)
    given = (real, imag, seen, modes, concealed, origins(seen), model.body.initial(channels))
    with torch.inference_mode():
        expected = model.transform(*given)
    found = opened(folder).transform(*given)
    for ours, theirs in zip((*found[:2], *found[2]), (*expected[:2], *expected[2]), strict=True):
        # Full scale is 512: a tenth of a 16-bit step. Where a phase is next to undecided, rounding is heard most.
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
    untouched = (seen & ~modes[:, None])[:, None].expand_as(real)
    assert torch.equal(found[0][untouched], real[untouched])


def test_graph_hears_what_is_concealed(params: Params, tmp_path: Path) -> None:
    """Where the network's weights do; without them it makes no difference, as in the network."""
    real, imag = spectra(24, 1)
    seen, modes = visible_bins(torch.tensor([8_000.0]), RATE), torch.tensor([True])
    for name, gain in (("deaf", 0.0), ("hearing", 1.0)):
        model = save(params, tmp_path / name)
        with torch.no_grad():
            model.concealed.weight.copy_(gain * torch.randn_like(model.concealed.weight))
        build.save(model, tmp_path / name, "rnn", params.train.rnn.model_copy(update={"layers": 2, "hidden": 24}))
        export.export(model, tmp_path / name)
        session, state = opened(tmp_path / name), model.body.initial(1)
        whole = []
        for share in (torch.zeros(1, 24), shares(24, 1)):
            given = (real, imag, seen, modes, share, origins(seen), state)
            with torch.inference_mode():
                expected = torch.stack(model.transform(*given)[:2])
            whole.append(torch.stack(session.transform(*given)[:2]))
            torch.testing.assert_close(whole[-1], expected, atol=1e-3, rtol=1e-4)
        difference = (whole[1] - whole[0]).abs()
        assert float(difference.max()) > 0.01 if gain else float(difference.max()) == 0.0
        assert not difference[..., : int(shares(24, 1)[0].nonzero()[0]), :].any()


def test_graph_takes_what_is_concealed_frame_by_frame_at_any_length(plain: Path) -> None:
    import onnx

    (value,) = (given for given in onnx.load(str(plain / "model.onnx")).graph.input if given.name == "concealed")
    assert [size.dim_param for size in value.type.tensor_type.shape.dim] == ["channels", "frames"]


@pytest.mark.parametrize("variant", ["gru", "cnn"])
def test_export_leaves_the_network_as_it_was(params: Params, tmp_path: Path, variant: str) -> None:
    """What acts in training alone is neither in the graph nor switched on by making it."""
    changes = {**VARIANTS[variant]}
    kind: build.Kind = changes.pop("kind")
    settings: CnnParams | RnnParams = params.train.cnn if kind == "cnn" else params.train.rnn
    settings = settings.model_copy(update=changes | {"dropout": 0.5})
    model = build.network(settings, RATE).eval()
    build.save(model, tmp_path, kind, settings)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export.export(model, tmp_path)
    assert not any(part.training for part in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("variant", CARRYING)
def test_graph_carries_its_state_from_call_to_call(params: Params, tmp_path: Path, variant: str) -> None:
    model = save(params, tmp_path, variant)
    export.export(model, tmp_path)
    spectrum, seen = torch.complex(*spectra(30, 2)), visible_bins(torch.tensor([6_000.0, 9_000.0]), RATE)
    modes, session, fresh = torch.tensor([True, False]), opened(tmp_path), model.body.initial(2)
    early, late = shares(30, 2)[:, :11], shares(30, 2)[:, 11:]
    with torch.inference_mode():
        whole, last = model.enhance(spectrum, seen, modes, shares(30, 2), fresh)
        first, state = model.enhance(spectrum[:, :11], seen, modes, early, fresh, session.transform)
        assert all(one.abs().max() > 0 for one in state)
        second, state = model.enhance(spectrum[:, 11:], seen, modes, late, state, session.transform)
        forgotten, _ = model.enhance(spectrum[:, 11:], seen, modes, late, fresh, session.transform)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(state, last, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(forgotten, second, atol=1e-4, rtol=1e-4)


def test_check_finds_the_graph_of_its_own_network_alone(params: Params, plain: Path, tmp_path: Path) -> None:
    assert 0.0 <= export.check(build.load(plain)[0], opened(plain)) < export.TOLERANCE
    with pytest.raises(ModelError, match=r"model\.onnx: differs from the network by"):
        export.check(save(params, tmp_path, seed=6), opened(plain))


def test_graph_says_which_weights_it_was_made_of(plain: Path) -> None:
    import hashlib

    assert opened(plain).digest == hashlib.sha256((plain / "weights.safetensors").read_bytes()).hexdigest()


# --- what is refused ----------------------------------------------------------------------------------------------------


def test_folder_without_graph_has_none(params: Params, tmp_path: Path) -> None:
    save(params, tmp_path)
    assert export.open_graph(tmp_path) is None
    assert Upsampler.load(tmp_path).graph is None


def test_graph_of_other_weights_is_ignored(params: Params, plain: Path, tmp_path: Path) -> None:
    save(params, tmp_path, seed=6)
    shutil.copyfile(plain / "model.onnx", tmp_path / "model.onnx")
    assert export.open_graph(tmp_path) is None
    assert Upsampler.load(tmp_path).graph is None
    with pytest.raises(ModelError, match=r"model\.onnx: expected the graph of the folder's weights"):
        Upsampler.load(tmp_path, runtime="onnx")


def test_runtime_onnx_without_a_graph_says_how_to_make_one(params: Params, tmp_path: Path) -> None:
    save(params, tmp_path)
    with pytest.raises(ModelError, match=r"model\.onnx: expected the graph .*`overtone export` writes it"):
        Upsampler.load(tmp_path, runtime="onnx")


def test_graph_runs_on_a_cpu_alone(plain: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx: .*to be run on the CPU"):
        Upsampler.load(plain, device="cuda", runtime="onnx")


@pytest.mark.parametrize("content", [b"", b"no graph", b"\xff" * 500, None], ids=["empty", "text", "bytes", "cut"])
def test_file_that_is_no_graph_is_named(plain: Path, tmp_path: Path, content: bytes | None) -> None:
    shutil.copytree(plain, tmp_path / "model")
    path = tmp_path / "model" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1_000] if content is None else content)
    with pytest.raises(ModelError, match=rf"{path}: not a graph that can be run"):
        export.open_graph(tmp_path / "model")
    runtimes: tuple[Runtime, ...] = ("auto", "onnx")
    for runtime in runtimes:
        with pytest.raises(ModelError, match=r"model\.onnx"):
            Upsampler.load(tmp_path / "model", runtime=runtime)
    assert Upsampler.load(tmp_path / "model", runtime="torch").graph is None


def test_folder_without_weights_is_refused(params: Params, tmp_path: Path) -> None:
    model = save(params, tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors: no such file"):
        export.export(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_graph_that_differs_is_not_kept(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save(params, tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"the one before")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="differs from the network"):
        export.export(model, tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == b"the one before"
    assert {path.name for path in tmp_path.iterdir()} == {"weights.safetensors", "config.json", "model.onnx"}


def test_graph_is_made_anew_of_new_weights(params: Params, plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "model")
    model = save(params, tmp_path / "model", seed=6)
    assert export.open_graph(tmp_path / "model") is None
    export.export(model, tmp_path / "model")
    assert export.check(model, opened(tmp_path / "model")) < export.TOLERANCE


# --- the upsampler ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["extend", "restore"])
@pytest.mark.parametrize("channels", [1, 2])
def test_both_runtimes_enhance_alike(folder: Path, mode: Mode, channels: int) -> None:
    signal = noise(12_345, channels)
    upsamplers = [Upsampler.load(folder, runtime="torch"), Upsampler.load(folder, runtime="onnx")]
    assert [upsampler.graph is None for upsampler in upsamplers] == [True, False]
    ours, theirs = (upsampler.enhance(signal, 16_000, mode=mode) for upsampler in upsamplers)
    assert ours.shape == theirs.shape == (channels, 37_035)
    assert peak(ours) > 0.1
    assert peak(ours - theirs) < STEP * max(1.0, peak(ours))


@pytest.mark.parametrize("mode", ["extend", "restore"])
@pytest.mark.parametrize("sizes", [[1, 7, 100], [511, 512, 513], [7_001, 1]], ids=str)
def test_both_runtimes_stream_alike_in_odd_blocks(folder: Path, mode: Mode, sizes: list[int]) -> None:
    """With a lost packet in the midst."""
    signal = noise(9_001 if sizes[0] == 1 else 20_011, 2)
    signal[:, 5_000:5_960] = 0.0
    streams = [
        Upsampler.load(folder, runtime="torch").stream(2, mode=mode, cutoff_hz=8_000.0),
        Upsampler.load(folder, runtime="onnx").stream(2, mode=mode, cutoff_hz=8_000.0),
    ]
    parts: list[list[Signal]] = [[], []]
    start, turn = 0, 0
    while start < signal.shape[1]:
        block = signal[:, start : start + sizes[turn % len(sizes)]]
        for stream, part in zip(streams, parts, strict=True):
            part.append(stream.push(block))
        assert parts[0][-1].shape == parts[1][-1].shape
        start, turn = start + block.shape[1], turn + 1
    ours, theirs = (
        np.concatenate([*part, stream.finish()], axis=1) for stream, part in zip(streams, parts, strict=True)
    )
    assert ours.shape == theirs.shape == signal.shape
    assert peak(ours - signal) > 0.01
    assert peak(ours - theirs) < STEP * max(1.0, peak(ours))


def test_graph_is_what_runs_on_a_cpu(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("the network ran")

    upsampler = Upsampler.load(plain)
    monkeypatch.setattr(SpectralUpsampler, "transform", never)
    assert peak(upsampler.enhance(noise(4_000), 16_000)) > 0
    with pytest.raises(AssertionError, match="the network ran"):
        Upsampler.load(plain, runtime="torch").enhance(noise(4_000), 16_000)


def test_silence_stays_silent_in_the_graph(folder: Path) -> None:
    out = Upsampler.load(folder, runtime="onnx").enhance(np.zeros((2, 8_000), np.float32), 16_000)
    assert out.shape == (2, 24_000)
    assert peak(out) == 0.0
