"""Laws of the corpus that the repository ships: what its catalog says, without the audio."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from overtone import settings as params
from overtone.data.split import Recording, split_recordings

ROOT = Path(__file__).parents[1]
STORE = ROOT / "dvcstore" / "files" / "md5"


def stored(digest: str) -> Path:
    return STORE / digest[:2] / digest[2:]


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Digest of every file of the corpus, by path."""
    (out,) = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]
    return {entry["relpath"]: entry["md5"] for entry in json.loads(stored(out["md5"]).read_text())}


@pytest.fixture(scope="module")
def catalog(files: dict[str, str]) -> pd.DataFrame:
    """The catalog, with the split of each file."""
    table = pd.read_csv(stored(files["catalog.csv"]), keep_default_na=False)
    rows = [
        Recording(row["path"], row["kind"], row["collection"], row["source"], float(row["seconds"]))
        for row in table.to_dict("records")
    ]
    settings = params.load(ROOT / "params.yaml")
    splits = split_recordings(rows, settings.corpus, settings.seed)
    return table.assign(split=table["source"].map(splits))


def test_every_file_is_stored_and_has_a_row_with_a_licence(files: dict[str, str], catalog: pd.DataFrame) -> None:
    assert all(stored(digest).is_file() for digest in files.values())
    assert set(files) - {"catalog.csv", "ATTRIBUTION.md"} == set(catalog["path"])
    assert catalog[["collection", "source", "package", "licence"]].map(bool).all(axis=None)


def test_attribution_names_every_package(files: dict[str, str], catalog: pd.DataFrame) -> None:
    text = stored(files["ATTRIBUTION.md"]).read_text()
    packages = {name for names in catalog["package"] for name in names.split("+")}
    assert [name for name in sorted(packages) if name not in text] == []


def test_no_recording_chain_straddles(catalog: pd.DataFrame) -> None:
    for column in ("collection", "source"):
        assert (catalog.groupby(column)["split"].nunique() == 1).all()


def test_every_chain_has_a_role_of_its_own(catalog: pd.DataFrame) -> None:
    assign = params.load(ROOT / "params.yaml").corpus.assign
    named = [*assign.train, *assign.valid, *assign.test]
    assert sorted(named) == sorted(catalog["collection"].unique())


def test_test_noise_is_of_many_kinds_and_chains(catalog: pd.DataFrame) -> None:
    noise = catalog[catalog["kind"] == "noise"]
    tested = noise[noise["split"] == "test"]
    assert tested["source"].nunique() >= 12
    assert tested["path"].str.split("/").str[1].nunique() >= 6
    assert tested["collection"].nunique() >= 6
    for split in ("train", "valid"):
        assert noise.loc[noise["split"] == split, "collection"].nunique() >= 3


@pytest.mark.parametrize("split", params.SPLITS)
def test_speech_reaches_the_top_of_the_band_in_every_split(catalog: pd.DataFrame, split: str) -> None:
    speech = catalog[(catalog["kind"] == "speech") & (catalog["split"] == split)]
    reach = speech.astype({"bandwidth_hz": float}).groupby("source")["bandwidth_hz"].median()
    assert (reach >= 20_000).sum() >= 3


def test_test_speech_and_music_have_a_true_48_khz(catalog: pd.DataFrame) -> None:
    tested = catalog[
        (catalog["split"] == "test") & (catalog["sample_rate"] == 48_000) & (catalog["origin"] == "lossless")
    ]
    assert (tested.groupby("kind")["source"].nunique().reindex(["speech", "music"]) >= 4).all()


def test_released_models_are_trained_on_no_chain_of_valid_or_test(catalog: pd.DataFrame) -> None:
    trained = pd.read_csv(ROOT / "released" / "sources.csv", keep_default_na=False)
    judged = catalog[catalog["split"] != "train"]
    noise = {*judged.loc[judged["kind"] == "noise", "package"]}
    assert not noise & {*trained.loc[trained["kind"] == "noise", "origin"]}
    assert not {*judged["source"], *judged["collection"]} & {*trained["source"], *trained["collection"]}
