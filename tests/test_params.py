"""Laws of the settings: what is unknown or out of range is an error that names its place, and nothing changes after loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from conftest import ROOT
from overtone import settings as params
from overtone.settings import ParamsError

PROJECT = ROOT / "params.yaml"


def changed(folder: Path, key: str, value: Any, remove: bool = False) -> Path:
    """The project's settings with one key set, or removed."""
    tree = yaml.safe_load(PROJECT.read_text())
    *parents, leaf = key.split(".")
    node = tree
    for part in parents:
        node = node[part]
    if remove:
        del node[leaf]
    else:
        node[leaf] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_defaults_are_read_from_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert params.load() == params.load(PROJECT)


@pytest.mark.parametrize("key", ["sead", "corpus.colour", "train.rnn.depth", "register.stage"])
def test_unknown_key_is_an_error_that_names_it(tmp_path: Path, key: str) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml: {key}: no such setting"):
        params.load(changed(tmp_path, key, 1))


@pytest.mark.parametrize("key", ["seed", "corpus.rate", "train.cnn.extend", "register.metric"])
def test_missing_key_is_an_error_that_names_it(tmp_path: Path, key: str) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml: {key}: missing"):
        params.load(changed(tmp_path, key, None, remove=True))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", "many"),
        ("corpus.test_share", 1.5),
        ("degrade.conditions", {}),
        ("train.restore.mixing.clean", -0.1),
        ("train.restore.mixing.music", 1.5),
        ("train.fit.average", 1.0),
        ("train.fit.compile", "maybe"),
        ("train.fit.start", 7),
        ("train.cnn.extend.dropout", 1.0),
        ("train.cnn.restore.kernel", 1),
        ("train.rnn.extend.cell", None),
        ("train.rnn.extend.cell", "transformer"),
        ("train.rnn.extend.width", 0),
        ("evaluate.baselines", ["magic"]),
    ],
)
def test_value_out_of_range_is_an_error_that_names_the_key(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml: {key}"):
        params.load(changed(tmp_path, key, value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("corpus.clip_seconds", 0.1, "clip_seconds must be at least min_seconds"),
        ("corpus.test_share", 0.95, "must leave something to train on"),
        (
            "degrade.conditions.overall",
            {"mode": "extend", "steps": [{"op": "clip", "share": 0.1}]},
            "may not be called 'overall'",
        ),
    ],
)
def test_values_that_do_not_go_together_are_explained(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        params.load(changed(tmp_path, key, value))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"op": "codec", "codec": "mp3"}, "'mp3' takes kbps"),
        ({"op": "codec", "codec": "vorbis", "kbps": 64}, "'vorbis' takes quality"),
        ({"op": "codec", "codec": "gsm610", "kbps": 13}, "takes neither"),
        ({"op": "reverb"}, "reverb"),
        ({"op": "narrowband"}, "rate"),
        ({"op": "packet_loss", "share": 0.1, "burst": 40}, "burst"),
        ({"op": "noise", "snr_db": 10, "speed": 0.5}, "speed"),
    ],
)
def test_step_of_a_condition_is_checked(tmp_path: Path, step: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        params.load(changed(tmp_path, "degrade.conditions.mine", {"mode": "restore", "steps": [step]}))


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ParamsError) as caught:
        params.load(PROJECT, ("seed=-1", "train.rnn.extend.layers=0", "train.cnn.extend.pooling=median"))
    message = str(caught.value)
    assert all(key in message for key in ("seed", "train.rnn.extend.layers", "train.cnn.extend.pooling"))
    assert len(message.splitlines()) == 3


# --- files --------------------------------------------------------------------------------------------------------------


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"nowhere\.yaml: no such file"):
        params.load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "not valid YAML"), ("- 1\n", "expected a mapping"), ("", "expected a mapping")]
)
def test_file_that_is_no_mapping_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=rf"params\.yaml: {message}"):
        params.load(tmp_path / "params.yaml")


# --- overrides ----------------------------------------------------------------------------------------------------------


def test_last_override_replaces_the_files_value_in_memory(tmp_path: Path) -> None:
    path = changed(tmp_path, "seed", 3)
    before = path.read_bytes()
    loaded = params.load(path, ("seed=5", "seed=6", "train.extend.ranges.level=[3, 4]", "train.rnn.extend.cell=lstm"))
    assert (loaded.seed, loaded.train.extend.ranges.level, loaded.train.rnn.extend.cell) == (6, (3.0, 4.0), "lstm")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["seed", "train.rnn.layer=1", "train.rnn.layers.more=1", "nothing.at.all=1", "=1", "train.=1"]
)
def test_override_of_no_setting_is_refused(text: str) -> None:
    with pytest.raises(ParamsError, match="override"):
        params.load(PROJECT, (text,))


@pytest.mark.parametrize("text", ["train.rnn.layers=", "train.rnn.layers=two", "train.rnn.layers=[1"])
def test_override_with_a_bad_value_is_refused(text: str) -> None:
    with pytest.raises(ParamsError, match=r"train\.rnn\.layers"):
        params.load(PROJECT, (text,))


# --- what is loaded -----------------------------------------------------------------------------------------------------


def test_settings_cannot_be_changed_after_loading() -> None:
    loaded = params.load(PROJECT)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        loaded.train.rnn.extend.layers = 1


def test_flat_settings_lead_back_to_the_tree() -> None:
    loaded = params.load(PROJECT)
    flat = params.flatten(loaded)
    assert flat["train.rnn.extend.cell"] == loaded.train.rnn.extend.cell
    assert flat["register.name"] == loaded.register_.name
    assert flat["corpus.path"] == "data"
    assert not any(isinstance(value, dict) for value in flat.values())
    json.dumps(flat)
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = value
    # The search is no part of the pipeline.
    assert params.Params.model_validate(tree | {"tune": loaded.tune}) == loaded
