"""Laws of the graphs: they compute what the networks do at any length, carry the state, and belong to their weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from overtone.audio import Signal
from overtone.enhance import networks
from overtone.models import envelope, gains, graphs
from overtone.models.folder import ModelError
from overtone.models.model import Model
from overtone.models.session import Session
from overtone.settings import Bodies, Params, RnnParams

VARIANTS = ("gru", "lstm", "cnn", "max")


def variant(params: Params, name: str) -> Model:
    torch.manual_seed(5)
    body: Any
    if name in ("gru", "lstm"):
        body = RnnParams(cell="gru" if name == "gru" else "lstm", width=12, layers=2, dropout=0.1)
        return Model.untrained("rnn", Bodies[RnnParams](extend=body, restore=body), 48_000)
    body = params.train.cnn.extend.model_copy(update={"pooling": "max" if name == "max" else "average"})
    return Model.untrained("cnn", Bodies[Any](extend=body, restore=body), 48_000)


@pytest.fixture(scope="module", params=VARIANTS)
def folder(request: pytest.FixtureRequest, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("graphs") / request.param
    variant(params, request.param).save(folder)
    assert [path.name for path in graphs.export(folder)] == ["extend.onnx", "restore.onnx"]
    return folder


def given(frames: int, batch: int) -> tuple[Signal, Signal, Signal]:
    generator = np.random.default_rng(frames)
    shapes = ((batch, frames, envelope.FEATURES), (batch, envelope.PROFILE), (batch, frames, gains.FEATURES))
    first, second, third = (generator.standard_normal(shape).astype(np.float32) for shape in shapes)
    return first, second, third


@pytest.mark.parametrize(("frames", "batch"), [(1, 1), (2, 3), (31, 2), (130, 1)])
def test_graphs_are_the_networks_at_any_length(folder: Path, frames: int, batch: int) -> None:
    outputs = []
    for runtime in ("torch", "onnx"):
        model = networks.load(folder, runtime=runtime)
        features, profile, spectra = (model.array(values) for values in given(frames, batch))
        levels, one = model.run_extend(features, profile, model.extend_state(batch))
        values, other = model.run_restore(spectra, model.restore_state(batch))
        outputs.append([levels, *one, values, *other])
    for ours, theirs in zip(*outputs, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-3)


def test_graph_goes_on_where_it_stopped(folder: Path) -> None:
    model = networks.load(folder, runtime="onnx")
    features, profile, _ = given(40, 2)
    whole, _ = model.run_extend(features, profile, model.extend_state(2))
    first, state = model.run_extend(features[:, :13], profile, model.extend_state(2))
    second, _ = model.run_extend(features[:, 13:], profile, state)
    np.testing.assert_allclose(np.concatenate((first, second), axis=1), whole, atol=1e-4, rtol=1e-3)


def test_graphs_of_other_weights_are_not_used(folder: Path, params: Params, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = Model.load(tmp_path)
    with torch.no_grad():
        model.extend.head.bias.add_(1)
    model.save(tmp_path)
    assert isinstance(networks.load(tmp_path), Model)
    with pytest.raises(ModelError, match=r"expected extend\.onnx and restore\.onnx of the folder's weights"):
        networks.load(tmp_path, runtime="onnx")


def test_graph_that_differs_is_refused(folder: Path) -> None:
    model = Model.load(folder)
    with torch.no_grad():
        model.restore.head.bias.add_(1)
    with pytest.raises(ModelError, match=r"restore\.onnx: differs from the network by 1"):
        graphs.check(model.restore, Session(folder / "restore.onnx"), folder / "restore.onnx")


@pytest.mark.parametrize("content", [b"no graph", b"location"])
def test_file_that_is_no_graph_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    for name in ("weights.safetensors", "config.json", "extend.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "restore.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"restore\.onnx: (not a graph|names other files)"):
        networks.load(tmp_path)


def test_graphs_enhance_without_torch(folder: Path, tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(16_000)), 16_000)
    names = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    code = f"""
import sys
from overtone.cli import app
app(["enhance", *{names}, "--model", {str(folder)!r}, "--mode", "restore"], standalone_mode=False)
assert "torch" not in sys.modules and "mlflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sf.info(names[1]).frames == 48_000
