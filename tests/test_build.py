"""Laws of a model folder: what was saved comes back bit for bit, and what is no model is refused by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from overtone.models import build
from overtone.models.build import ModelError
from overtone.models.spectral import Phase, SpectralUpsampler
from overtone.params import Params

RATE = 48_000


def save(
    params: Params, folder: Path, kind: build.Kind = "rnn", phase: Phase = "copied", **options: Any
) -> SpectralUpsampler:
    settings = (params.train.cnn if kind == "cnn" else params.train.rnn).model_copy(update={"phase": phase})
    torch.manual_seed(11)
    model = build.network(settings, RATE).eval()
    build.save(model, folder, kind, settings, **options)
    return model


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
@pytest.mark.parametrize("phase", ["copied", "free", "mixed"])
def test_saved_network_comes_back_bit_for_bit(params: Params, tmp_path: Path, kind: build.Kind, phase: Phase) -> None:
    saved = save(params, tmp_path / "model", kind, phase)
    loaded, config = build.load(tmp_path / "model")
    assert not loaded.training
    assert config["model"] == kind
    assert config["network"]["phase"] == loaded.phase == phase
    arguments = 0.1 * torch.randn(2, 5_000), torch.tensor([4_000.0, 8_000.0]), torch.tensor([False, True])
    with torch.inference_mode():
        assert torch.equal(loaded(*arguments), saved(*arguments))


def test_folder_holds_weights_and_settings_and_no_pickle(params: Params, tmp_path: Path) -> None:
    save(params, tmp_path, facts={"train": {"seed": 5}})
    assert {path.name for path in tmp_path.iterdir()} == {"weights.safetensors", "config.json"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["network"] == params.train.rnn.model_dump(mode="json")
    assert (config["rate"], config["train"]) == (RATE, {"seed": 5})


def test_same_network_is_saved_as_the_same_bytes(params: Params, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(params, tmp_path / name)
    for name in ("weights.safetensors", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_weights_on_disk_are_those_of_the_network(params: Params, tmp_path: Path) -> None:
    model = save(params, tmp_path)
    stored = load_file(tmp_path / "weights.safetensors")
    assert set(stored) == set(model.state_dict())
    assert all(torch.equal(stored[name], value) for name, value in model.state_dict().items())


def test_half_precision_is_half_the_file_and_nearly_the_network(params: Params, tmp_path: Path) -> None:
    model = save(params, tmp_path / "whole")
    save(params, tmp_path / "half", dtype=torch.float16)
    sizes = [(tmp_path / name / "weights.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.1)
    loaded, _ = build.load(tmp_path / "half")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    arguments = 0.1 * torch.randn(2, 5_000), torch.tensor([4_000.0, 8_000.0]), torch.tensor([False, True])
    with torch.inference_mode():
        torch.testing.assert_close(loaded(*arguments), model(*arguments), atol=1e-3, rtol=0)


def test_settings_without_a_phase_are_those_of_no_network(params: Params, tmp_path: Path) -> None:
    save(params, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["network"]["phase"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"config\.json: not the settings of a model"):
        build.load(tmp_path)


@pytest.mark.parametrize("family", ["cnn", "rnn"])
def test_family_follows_from_the_settings(params: Params, family: str) -> None:
    settings = params.train.cnn if family == "cnn" else params.train.rnn
    assert type(build.network(settings, RATE).body).__name__ == {"cnn": "ConvBody", "rnn": "RecurrentBody"}[family]


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
def test_folder_without_a_model_is_named(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(
        ModelError, match=rf"{folder}: not a model folder; expected weights\.safetensors and config\.json"
    ):
        build.load(folder)


def test_missing_weights_are_named(params: Params, tmp_path: Path) -> None:
    save(params, tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors: no such file"):
        build.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"bad", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0{}      "])
def test_corrupt_weights_are_named(params: Params, tmp_path: Path, content: bytes) -> None:
    save(params, tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.safetensors: not the weights of the network in config\.json"):
        build.load(tmp_path)


def test_truncated_weights_are_named(params: Params, tmp_path: Path) -> None:
    save(params, tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        build.load(tmp_path)


def test_weights_of_another_network_are_named(params: Params, tmp_path: Path) -> None:
    save(params, tmp_path)
    stored = load_file(tmp_path / "weights.safetensors")
    first = next(iter(stored))
    save_file({first: stored[first]}, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"weights\.safetensors: not the weights of the network"):
        build.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "\xff\xfe"])
def test_config_that_is_no_json_object_is_named(params: Params, tmp_path: Path, content: str) -> None:
    save(params, tmp_path)
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json"):
        build.load(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        *({"model": "transformer"}, {"model": None}, {"model": []}),
        *({"rate": "fast"}, {"rate": None}, {"network": {}}, {"network": 7}),
    ],
    ids=str,
)
def test_config_of_no_known_network_is_named(params: Params, tmp_path: Path, changes: dict[str, Any]) -> None:
    save(params, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=r"config\.json: not the settings of a model"):
        build.load(tmp_path)


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.target, "boom"))


@pytest.mark.parametrize("by", ["torch", "pickle"])
def test_pickle_is_refused_and_never_run(params: Params, tmp_path: Path, by: str) -> None:
    save(params, tmp_path / "model")
    weights, hit = tmp_path / "model" / "weights.safetensors", tmp_path / "hit"
    if by == "torch":
        torch.save({"weights": Bomb(hit)}, weights)
    else:
        weights.write_bytes(pickle.dumps(Bomb(hit)))
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        build.load(tmp_path / "model")
    assert not hit.exists()
