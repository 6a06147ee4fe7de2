"""Laws of what MLflow shows: names that tell runs apart, nothing twice, descriptions and cards in step."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, ModelMaker
from overtone import settings
from overtone.registry import card, packaging, register, registry
from overtone.registry.register import Candidate
from overtone.tracking import evaluations, naming, runs, store
from test_registry import GATE, NAME, light_log, scored

CONDITIONS = ("sinc_8k", "sinc_12k", "mp3_32k")


def tree(lsd: float, test_set: str = "set-a", kinds: tuple[str, ...] = ("music", "speech")) -> dict[str, Any]:
    """The metrics of a report in which every LSD is near one figure."""
    groups = (*CONDITIONS, "extend", "restore", "overall")
    return {"test_set": test_set} | {
        group: {kind: {"lsd": lsd + place / 100, "si_sdr": 10 + place} for kind in (*kinds, "all")}
        for place, group in enumerate(groups)
    }


def write_report(folder: Path, metrics: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "scores.csv").write_text("system,condition\n")
    return folder


def names(client: Any) -> list[str]:
    return [str(run.info.run_name) for run in client.search_runs([store.experiment_id(client)])]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def committed(bare_project: Path) -> Path:
    """The project's own settings as the last commit of a repository."""
    shutil.copyfile(ROOT / "params.yaml", bare_project / "params.yaml")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    return bare_project / "params.yaml"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ((), "rnn"),
        (("train.rnn.extend.layers=1", "train.extend.steps=350"), "rnn · extend.steps=350 · extend.layers=1"),
        (("train.restore.snr_weight=0.7", "seed=3"), "rnn · seed=3 · restore.snr_weight=0.7"),
        # What an rnn's training does not depend on tells its runs not apart.
        (("train.cnn.extend.width=64", "evaluate.figures=1", "register.margin=0.5"), "rnn"),
        (
            ("train.extend.ranges.cutoffs=[4000,5000,6000,7000,8000]",),
            "rnn · extend.ranges.cutoffs=[4000.0, 5000.0, 6000.0, 7000.0, 8000.0]",
        ),
    ],
)
def test_name_of_a_run_is_what_differs_from_the_commit(committed: Path, changes: tuple[str, ...], name: str) -> None:
    assert naming.run_name("rnn", settings.load(committed, changes), runs.foreign("rnn")) == name


def test_long_names_are_cut_and_the_experiment_is_named(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [f"train.fit.{key}" for key in ("average=0.5", "warmup_steps=3", "epoch_steps=9", "patience=1")]
    changes += ["train.extend.batch=3", "train.restore.batch=3", "train.extend.learning_rate=0.01", "seed=9"]
    monkeypatch.setenv("DVC_EXP_NAME", "brave-owl")
    name = naming.run_name("cnn", settings.load(committed, tuple(changes)), runs.foreign("cnn"))
    assert name.endswith("… (brave-owl)") and len(name) == 120 + len(" (brave-owl)")


def test_committed_settings_that_this_code_cannot_read_name_nothing(committed: Path) -> None:
    committed.write_text("seed: many\n")
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qam", "odd"], check=True)
    assert naming.run_name("rnn", settings.load(ROOT / "params.yaml"), runs.foreign("rnn")) == "rnn"


# --- baselines and charts -----------------------------------------------------------------------------------------------


def test_same_report_of_a_baseline_makes_no_second_run(project: Path) -> None:
    client, report = store.client(), write_report(project / "reports" / "sinc", tree(2.0))
    first = evaluations.log_baseline("sinc", tree(2.0), report)
    assert evaluations.log_baseline("sinc", tree(2.0), report) == first
    run = client.get_run(first)
    assert run.info.status == "FINISHED"
    assert run.data.tags["overtone.system"] == "sinc" and run.data.tags["overtone.kind"] == "baseline"
    assert run.data.metrics["test/sinc_8k.all.lsd"] == pytest.approx(2.0)
    write_report(report, tree(2.5))
    assert evaluations.log_baseline("sinc", tree(2.5), report) != first
    assert names(client) == ["sinc", "sinc"]


def test_interrupted_record_of_a_baseline_is_made_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    report = write_report(project / "reports" / "sbr", tree(1.2))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            evaluations.log_baseline("sbr", tree(1.2), report)
    assert store.client().get_run(evaluations.log_baseline("sbr", tree(1.2), report)).info.status == "FINISHED"


def test_conditions_are_steps_in_one_order(project: Path) -> None:
    client = store.client()
    run_id = evaluations.log_baseline("sinc", tree(1.0), write_report(project / "reports" / "sinc", tree(1.0)))
    assert evaluations.numbered(tree(1.0)) == {1: "mp3_32k", 2: "sinc_8k", 3: "sinc_12k"}
    points = sorted((one.step, one.value) for one in client.get_metric_history(run_id, "conditions/lsd.all"))
    assert [step for step, _ in points] == [1, 2, 3]
    assert [value for _, value in points] == pytest.approx([1.02, 1.0, 1.01])


# --- descriptions -------------------------------------------------------------------------------------------------------


def test_description_compares_what_is_comparable_and_keeps_the_users_words(project: Path) -> None:
    client = store.client()
    run_id = str(client.create_run(store.experiment_id(client)).info.run_id)
    client.set_tag(run_id, evaluations.NOTE, "My own words.")
    metrics = {"sinc": tree(2.0), "cnn": tree(3.0, test_set="another"), "rnn": tree(1.0)}
    for _ in range(2):
        evaluations.describe(run_id, metrics, "rnn")
    note = client.get_run(run_id).data.tags[evaluations.NOTE]
    assert note.startswith("My own words.\n\n")
    assert note.count("| rnn | 1.030") == note.count("| sinc | 2.030") == 1
    assert "| cnn" not in note
    assert "1 mp3_32k, 2 sinc_8k, 3 sinc_12k" in note


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("https://ada:secret@mlflow.example/base/", "https://mlflow.example/base/#/runs/abc"),
        ("sqlite:///mlflow.db", ""),
        ("postgresql://ada:secret@db/mlflow", ""),
    ],
)
def test_address_of_a_run_is_its_servers_without_a_secret(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch, uri: str, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert evaluations.address("abc") == address


# --- cards --------------------------------------------------------------------------------------------------------------

AUDIO = card.TrainingAudio({"speech": 9.26, "music": 4.0}, {"speech": 5, "music": 19}, ("GPL-2+", "CC0"))
FACTS = {"run_id": "a" * 32, "model": "rnn", "parameters": 4_147_078, "steps": 400, "data_digest": "d1ce.dir"}


def test_card_says_what_was_trained_on_how_good_it_is_where_not_and_whose(project: Path) -> None:
    weak = tree(1.0)
    weak["mp3_32k"]["speech"] = {"lsd": 1.9}
    text = card.write("rnn", {"sinc": tree(2.0), "sbr": tree(1.5), "rnn": weak}, FACTS, AUDIO)
    assert "4.15 M parameters, 400 optimiser steps" in text
    assert "9.3 min of speech (5 sources), 4.0 min of music (19 sources)" in text
    assert "GPL-2+; CC0" in text
    assert "baseline or behind it, by LSD: mp3_32k (speech)." in text


def test_card_without_corpus_or_catalog_says_so() -> None:
    assert "not here to be described" in card.write("rnn", {"rnn": tree(1.0)}, FACTS, None)
    assert "licences of the training audio are not stated" in card.write(
        "rnn", {"rnn": tree(1.0)}, FACTS, card.TrainingAudio({"speech": 1.0}, {"speech": 1})
    )


def test_card_of_any_length_fits_where_mlflow_keeps_it() -> None:
    for licences in (3, 600):
        text = card.write("rnn", {"rnn": tree(1.0)}, FACTS, card.TrainingAudio({}, {}, ["a licence"] * licences))
        assert len(text) <= card.LONGEST and "**Licence.**" in text and "| rnn |" in text


def test_training_split_is_described_from_corpus_and_catalog(pairs_folder: Path, tmp_path: Path) -> None:
    corpus = pairs_folder.parent / "corpus"
    raw = tmp_path / "raw"
    raw.mkdir()
    from overtone.data.corpus import read_manifest

    clips = [clip for clip in read_manifest(corpus) if clip.split == "train"]
    lines = [f"{clip.origin},{'CC0' if clip.kind == 'music' else 'GPL-2'}" for clip in clips]
    (raw / "catalog.csv").write_text("\n".join(["path,licence", "other.flac,secret", *lines]) + "\n")
    found = card.training_audio(corpus, raw)
    assert found is not None
    assert found.sources == {kind: sum(clip.kind == kind for clip in clips) for kind in found.sources}
    assert found.minutes["music"] * 60 == pytest.approx(sum(clip.seconds for clip in clips if clip.kind == "music"))
    assert set(found.licences) == {"CC0", "GPL-2"}
    assert card.training_audio(tmp_path / "nowhere", raw) is None


def test_registered_model_shows_the_champions_card_whoever_made_it_champion(
    project: Path, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaging, "log", light_log)
    client = store.client()

    def shown() -> str:
        return str(client.get_registered_model(NAME).description)

    for number, lsd in ((1, 1.0), (2, 1.5), (3, 0.5)):
        folder = make_model(f"m{number}", run_id=f"{number:032x}", seed=number)
        register.register([Candidate(folder, scored(lsd), f"card {number}")], GATE)
        assert client.get_model_version(NAME, str(number)).description == f"card {number}"
        champion = 3 if number == 3 else 1
        assert f"Champion: version {champion} (rnn)\n\ncard {champion}" in shown()
    registry.promote(NAME, 2)
    assert "Champion: version 2 (rnn)\n\ncard 2" in shown()
    registry.rollback(NAME)
    assert "Champion: version 3 (rnn)\n\ncard 3" in shown()
    # A card that says more now, of a version that was judged before.
    register.register([Candidate(project / "models" / "m3", scored(0.5), "card 3, again")], GATE)
    assert shown().endswith("card 3, again")
