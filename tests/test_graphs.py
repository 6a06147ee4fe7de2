"""Laws of the graphs: they compute what the networks do at any length, carry the state, and belong to their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from overtone.models import extend, graphs, restore
from overtone.models.folder import ModelError
from overtone.models.model import Model
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


def given(frames: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(frames)
    shapes = ((batch, frames, extend.FEATURES), (batch, extend.PROFILE), (batch, frames, restore.FEATURES))
    first, second, third = (torch.randn(shape, generator=generator) for shape in shapes)
    return first, second, third


@pytest.mark.parametrize(("frames", "batch"), [(1, 1), (2, 3), (31, 2), (130, 1)])
def test_graphs_are_the_networks_at_any_length(folder: Path, frames: int, batch: int) -> None:
    by_torch, by_graph = Model.load(folder), Model.load(folder, runtime="onnx")
    features, profile, spectra = given(frames, batch)
    for one, other in (
        (model.run_extend(features, profile, model.extend_state(batch)) for model in (by_torch, by_graph)),
        (model.run_restore(spectra, model.restore_state(batch)) for model in (by_torch, by_graph)),
    ):
        for ours, theirs in zip((one[0], *one[1]), (other[0], *other[1]), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_graph_goes_on_where_it_stopped(folder: Path) -> None:
    model = Model.load(folder, runtime="onnx")
    features, profile, _ = given(40, 2)
    whole, _ = model.run_extend(features, profile, model.extend_state(2))
    first, state = model.run_extend(features[:, :13], profile, model.extend_state(2))
    second, _ = model.run_extend(features[:, 13:], profile, state)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole, atol=1e-4, rtol=1e-3)


def test_graphs_of_other_weights_are_not_used(folder: Path, params: Params, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = Model.load(tmp_path)
    with torch.no_grad():
        model.extend.head.bias.add_(1)
    model.save(tmp_path)
    assert not Model.load(tmp_path, runtime="auto").sessions
    with pytest.raises(ModelError, match=r"expected extend\.onnx and restore\.onnx of the folder's weights"):
        Model.load(tmp_path, runtime="onnx")


def test_graph_that_differs_is_refused(folder: Path) -> None:
    model = Model.load(folder, runtime="onnx")
    with torch.no_grad():
        model.restore.head.bias.add_(1)
    with pytest.raises(ModelError, match=r"restore\.onnx: differs from the network by 1"):
        graphs.check(model.restore, model.sessions["restore"], folder / "restore.onnx")


@pytest.mark.parametrize("content", [b"no graph", b"location"])
def test_file_that_is_no_graph_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    for name in ("weights.safetensors", "config.json", "extend.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "restore.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"restore\.onnx: (not a graph|names other files)"):
        Model.load(tmp_path, runtime="auto")
