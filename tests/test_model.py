"""Laws of a model folder: what was saved is loaded, and what cannot be used is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from overtone.models.families import FAMILIES
from overtone.models.folder import ModelError
from overtone.models.model import Model
from overtone.settings import FAMILIES as NAMES
from overtone.settings import Params


def made(params: Params, family: str = "rnn") -> Model:
    torch.manual_seed(3)
    return Model.untrained(family, params.train.bodies(family), 48_000)


@pytest.fixture
def folder(params: Params, tmp_path: Path) -> Path:
    made(params).save(tmp_path, facts={"note": "kept"})
    return tmp_path


def test_table_of_families_is_that_of_the_settings() -> None:
    assert set(FAMILIES) == set(NAMES)


@pytest.mark.parametrize("family", NAMES)
def test_loaded_model_computes_what_the_saved_one_does(params: Params, tmp_path: Path, family: str) -> None:
    model = made(params, family)
    model.save(tmp_path)
    found = Model.load(tmp_path)
    assert (found.family, found.rate, found.bodies) == (family, 48_000, params.train.bodies(family))
    assert found.parameters == model.parameters
    for task, network in model.networks.items():
        weights = found.networks[task].state_dict()
        assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
        assert not found.networks[task].training


def test_half_precision_halves_the_file_and_computes_in_single(params: Params, tmp_path: Path) -> None:
    model = made(params)
    for name, dtype in (("half", torch.float16), ("single", torch.float32)):
        model.save(tmp_path / name, dtype=dtype)
    half, single = ((tmp_path / name / "weights.safetensors").stat().st_size for name in ("half", "single"))
    assert half < 0.6 * single
    assert {value.dtype for value in Model.load(tmp_path / "half").extend.state_dict().values()} == {torch.float32}


def test_facts_are_kept_beside_the_settings(folder: Path) -> None:
    config = Model.load(folder).config
    assert (config["note"], config["family"], config["format"]) == ("kept", "rnn", 2)


def changed(folder: Path, changes: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 1}, "of format 1, and this version of overtone reads 2: train it again"),
        ({"format": 3, "overtone": "9.1"}, "install overtone 9.1 or later"),
        ({"format": "2"}, "format: expected a whole number"),
        ({"family": "gan"}, "config.json: not the settings of a model: 'gan'"),
        ({"rate": "fast"}, "config.json: not the settings of a model"),
        ({"bodies": {"extend": {}}}, "config.json: not the settings of a model"),
        (
            {
                "bodies": {
                    task: {"cell": "gru", "width": 10**7, "layers": 9, "dropout": 0} for task in ("extend", "restore")
                }
            },
            "weights.safetensors: not the weights of the networks in config.json",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(folder: Path, changes: dict[str, Any], said: str) -> None:
    """Those of an enormous network without taking memory for it."""
    changed(folder, changes)
    with pytest.raises(ModelError) as error:
        Model.load(folder)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", None, "not a model folder; expected weights.safetensors and config.json"),
        ("config.json", b"{", "not valid JSON"),
        ("config.json", b"[]", "expected a JSON object"),
        ("weights.safetensors", None, "no such file; expected the weights of a model"),
        ("weights.safetensors", b"none", "not the weights of the networks"),
    ],
)
def test_damaged_folder_is_refused_by_name(folder: Path, name: str, content: bytes | None, said: str) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=said):
        Model.load(folder)
