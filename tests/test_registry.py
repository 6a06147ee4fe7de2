"""Laws of the registry: nothing twice, no champion but through the gate, always a way back, no weights but those registered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import ROOT, ModelMaker
from overtone import cli
from overtone.models.folder import ModelError
from overtone.registry import fetch, gate, packaging, register, registry
from overtone.registry.hooks import HookError
from overtone.registry.register import Candidate
from overtone.registry.scores import Scored
from overtone.registry.versions import RegistryError
from overtone.settings import Guard, RegisterParams
from overtone.tracking import store

NAME = "overtone"
GATE = RegisterParams(
    name=NAME,
    metric="overall.all.lsd",
    better="lower",
    guards=(
        Guard(metric="extend.speech.lsd", better="lower", tolerance=0.02),
        Guard(metric="restore.all.si_sdr", better="higher", tolerance=0.1),
    ),
)


def scored(lsd: float, speech: float = 1.0, si_sdr: float = 5.0, test_set: str = "set-a") -> Scored:
    """A report of 24 clips of 8 voices whose means are these figures."""
    lines = ["system,condition,mode,kind,source,clip,cutoff_hz,bandwidth_hz,lsd,si_sdr"]
    for clip in range(24):
        off = (clip % 2 - 0.5) / 10
        name = f"speech,voice{clip % 8},clip{clip},8000.0,20000.0"
        lines.append(f"rnn,sinc_8k,extend,{name},{speech + off!r},")
        lines.append(f"rnn,mp3,restore,{name},{2 * lsd - speech + off!r},{si_sdr + off!r}")
    return Scored(tree(lsd, speech, si_sdr, test_set), "\n".join(lines) + "\n")


def tree(lsd: float, speech: float = 1.0, si_sdr: float = 5.0, test_set: str = "set-a") -> dict[str, Any]:
    return {
        "test_set": test_set,
        "overall": {"all": {"lsd": lsd}},
        "extend": {"speech": {"lsd": speech}},
        "restore": {"all": {"si_sdr": si_sdr}},
    }


def light_log(client: Any, folder: Path, run_id: str) -> packaging.Logged:
    """Logs the bare model folder: the laws of the registry do not depend on the pyfunc, which takes seconds."""
    experiment = client.get_run(run_id).info.experiment_id
    model_id = str(client.create_logged_model(experiment, source_run_id=run_id).model_id)
    staged = folder.parent / f".{model_id}" / "artifacts"
    shutil.copytree(folder, staged / "model")
    client.log_model_artifacts(model_id, str(staged.parent))
    client.finalize_logged_model(model_id, "READY")
    return packaging.Logged(model_id, packaging.digested(staged / "model"))


@pytest.fixture
def light_packaging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaging, "log", light_log)


@pytest.fixture
def model_number(project: Path, make_model: ModelMaker, light_packaging: None) -> ModelMaker:
    """Model folders of the project, each of weights and a run of its own, by number."""

    def take(number: int) -> Path:
        return make_model(f"m{number}", run_id=f"{number:032x}", seed=number)

    return take


def champion() -> int:
    return int(store.client().get_model_version_by_alias(NAME, "champion").version)


def tags(version: int) -> dict[str, str]:
    return dict(store.client().get_model_version(NAME, str(version)).tags)


# --- the gate, on figures alone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "passes"),
    [
        (tree(1.0, 1.0, 5.0), False),
        (tree(0.5, 1.019, 4.91), True),
        (tree(0.5, 1.03, 5.0), False),
    ],
)
def test_gate_needs_a_gain_and_no_fall(candidate: Mapping[str, Any], passes: bool) -> None:
    lsd = candidate["overall"]["all"]["lsd"]
    passed, reason = gate.verdict(gate.compare(Scored(candidate, scored(lsd).table), scored(1.0), GATE))
    assert passed is passes
    assert ("beats the champion" in reason) is passes


def test_guard_whose_metric_no_model_has_is_an_error_before_anything_is_made(model_number: ModelMaker) -> None:
    lacking = {name: part for name, part in tree(1.0).items() if name != "restore"}
    with pytest.raises(RegistryError, match=r"register\.guards: .*m1 has no finite 'restore\.all\.si_sdr'"):
        register.register([Candidate(model_number(1), Scored(lacking, scored(1.0).table))], GATE)
    assert registry.models(NAME) == []


# --- register ---------------------------------------------------------------------------------------------------------


def test_best_candidate_becomes_version_challenger_and_first_champion_once(model_number: ModelMaker) -> None:
    candidates = [Candidate(model_number(1), scored(1.2)), Candidate(model_number(2), scored(0.9))]
    decision = register.register(candidates, GATE)
    assert (decision.version, decision.created, decision.promoted, decision.champion) == (1, True, True, 1)
    (row,) = registry.models(NAME)
    assert row.aliases == ("challenger", "champion")
    assert (row.commit, row.data_digest, row.test_set, row.model) == ("c0ffee", "d1ce.dir", "set-a", "rnn")
    assert row.scores == {"overall.all.lsd": 0.9, "extend.speech.lsd": 1.0, "restore.all.si_sdr": 5.0}
    assert tags(1)["origin_run_id"] == f"{2:032x}"
    assert store.client().get_run(row.run_id).data.tags["overtone.restored_from"] == f"{2:032x}"
    again = register.register(candidates, GATE)
    assert (again.version, again.created, again.promoted, again.champion) == (1, False, False, 1)
    assert again.reason == "is the champion already"
    with pytest.raises(RegistryError, match=r"no candidate has a finite 'overall\.all\.lsd'"):
        register.register([Candidate(model_number(1), Scored({"test_set": "a"}))], GATE)


def test_better_candidate_takes_the_champions_place_and_others_are_challengers(model_number: ModelMaker) -> None:
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    worse = register.register([Candidate(model_number(2), scored(1.1))], GATE)
    assert (worse.promoted, worse.champion) == (False, 1)
    newest, oldest = registry.models(NAME)
    assert (newest.aliases, oldest.aliases) == (("challenger",), ("champion",))
    assert "does not beat the champion" in newest.decision
    guarded = Candidate(model_number(3), scored(0.5, si_sdr=4.0))
    decision = register.register([guarded], GATE)
    assert "falls on a guard metric: restore.all.si_sdr 4.0000 against 5.0000" in decision.reason
    assert tags(3)["gate.restore.all.si_sdr"].startswith("failed")
    assert tags(3)["gate.extend.speech.lsd"].startswith("passed")
    decision = register.register([Candidate(model_number(4), scored(0.9))], GATE)
    assert (decision.version, decision.promoted, decision.champion, decision.previous) == (4, True, 4, 1)
    assert champion() == 4
    assert tags(4)["decision"].startswith("promoted: beats the champion: overall.all.lsd 0.9000 against 1.0000")
    anew = register.register([guarded], GATE.model_copy(update={"guards": ()}))
    assert (anew.version, anew.created, anew.promoted) == (3, False, True), "other settings are another question"


def test_champion_of_another_test_set_is_scored_again_once_or_stays(model_number: ModelMaker) -> None:
    register.register([Candidate(model_number(1), scored(0.5, test_set="easy"))], GATE)
    better = Candidate(model_number(2), scored(0.1, test_set="hard"))
    assert "not comparable" in register.register([better], GATE).reason
    asked: list[bytes] = []

    def rescore(folder: Path) -> Scored:
        asked.append((folder / "weights.safetensors").read_bytes())
        return scored(1.0, test_set="hard")

    worse = register.register([Candidate(model_number(3), scored(1.1, test_set="hard"))], GATE, rescore)
    assert (worse.promoted, worse.comparisons[0].champion) == (False, 1.0)
    assert register.register([Candidate(model_number(4), scored(0.9, test_set="hard"))], GATE, rescore).promoted
    assert asked == [(model_number(1) / "weights.safetensors").read_bytes()]


def test_champion_of_other_code_stays_and_is_named(model_number: ModelMaker) -> None:
    """Its weights do not fit today's network."""
    register.register([Candidate(model_number(1), scored(1.0, test_set="easy"))], GATE)

    def rescore(folder: Path) -> Scored:
        raise ModelError(f"{folder}/weights.safetensors: not the weights of the network in config.json: missing keys")

    decision = register.register([Candidate(model_number(2), scored(0.1, test_set="hard"))], GATE, rescore)
    assert (decision.promoted, champion()) == (False, 1)
    assert "champion 1 cannot be run by this code (missing keys): not comparable, promote by hand" in decision.reason


# --- verdicts and their questions -------------------------------------------------------------------------------------


def test_after_a_rollback_the_candidate_is_judged_against_the_champion_of_now(model_number: ModelMaker) -> None:
    """It is better than version 1 and worse than version 2."""
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    register.register([Candidate(model_number(2), scored(0.8))], GATE)
    candidate = Candidate(model_number(3), scored(0.9))
    assert not register.register([candidate], GATE).promoted
    assert "nothing new" in register.register([candidate], GATE).reason
    registry.rollback(NAME)
    decision = register.register([candidate], GATE)
    assert (decision.promoted, decision.champion, decision.previous) == (True, 3, 1)


def test_other_code_of_the_metrics_asks_anew_and_scores_the_champion_anew(model_number: ModelMaker) -> None:
    before = scored(1.0)
    register.register([Candidate(model_number(1), Scored(before.metrics, before.table, "code 1"))], GATE)
    asked: list[Path] = []

    def rescore(folder: Path) -> Scored:
        asked.append(folder)
        return Scored(before.metrics, before.table, "code 2")

    after = scored(0.9)
    worse = Candidate(model_number(2), Scored(scored(1.1).metrics, scored(1.1).table, "code 1"))
    assert not register.register([worse], GATE, rescore).promoted and not asked
    for _ in range(2):
        register.register([Candidate(model_number(3), Scored(after.metrics, after.table, "code 2"))], GATE, rescore)
    assert len(asked) == 1
    assert champion() == 3


def test_each_verdict_on_a_test_set_is_counted_in_its_reason(model_number: ModelMaker) -> None:
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    for number, lsd in ((2, 1.1), (3, 0.9)):
        register.register([Candidate(model_number(number), scored(lsd))], GATE)
    assert "(verdict 1 on this test set)" in tags(2)["decision"]
    assert "(verdict 2 on this test set)" in tags(3)["decision"]
    assert store.client().get_registered_model(NAME).tags["asked.set-a"] == "2"


def test_first_champion_must_beat_the_baselines(model_number: ModelMaker) -> None:
    baselines = {"sinc": scored(1.5), "wiener": scored(1.0)}
    decision = register.register([Candidate(model_number(1), scored(1.2))], GATE, baselines=baselines)
    assert (decision.promoted, decision.champion) == (False, None)
    assert "no champion yet: does not beat baseline wiener" in decision.reason
    decision = register.register([Candidate(model_number(2), scored(0.9))], GATE, baselines=baselines)
    assert decision.promoted and "beats baseline sinc, baseline wiener" in decision.reason


@pytest.mark.parametrize("policy", ["never", "clean-tree"])
def test_promotion_may_be_left_to_hands_and_to_clean_folders(
    model_number: ModelMaker, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    from overtone.tracking import git

    state = {"commit": "c0ffee", "dirty": True}
    monkeypatch.setattr(git, "commit", lambda _: state["commit"])
    monkeypatch.setattr(git, "dirty", lambda _: state["dirty"])
    params = GATE.model_copy(update={"promote": policy})
    candidate = Candidate(model_number(1), scored(1.0))
    decision = register.register([candidate], params)
    assert not decision.promoted and not decision.changed
    assert decision.reason.startswith(f"passes the gate, and register.promote is {policy}")
    assert "`overtone promote 1` does it" in decision.reason
    state["dirty"] = False
    trained = json.loads((candidate.folder / "run.json").read_text())
    (candidate.folder / "run.json").write_text(json.dumps(trained | {"dirty": False}))
    assert register.register([candidate], params).promoted is (policy == "clean-tree")


def test_champion_changed_by_another_machine_meanwhile_is_found(
    model_number: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock keeps two machines apart; the second to write gets an error."""
    for number, lsd in ((1, 1.0), (2, 1.1)):
        register.register([Candidate(model_number(number), scored(lsd))], GATE)
    compare = gate.compare

    def meanwhile(*arguments: Any) -> Any:
        store.client().set_registered_model_alias(NAME, "champion", "2")
        return compare(*arguments)

    monkeypatch.setattr(gate, "compare", meanwhile)
    with pytest.raises(RegistryError, match="another process has made version 2 champion meanwhile"):
        register.register([Candidate(model_number(3), scored(0.9))], GATE)
    assert champion() == 2


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_rollback_goes_back_step_by_step_and_promotion_past_the_gate(model_number: ModelMaker) -> None:
    assert registry.models(NAME) == []
    with pytest.raises(RegistryError, match=r"no such model in sqlite:///mlflow\.db"):
        registry.promote(NAME, "challenger")
    candidates = [
        Candidate(model_number(number), scored(lsd)) for number, lsd in ((1, 1.0), (2, 0.9), (3, 0.8), (4, 0.7))
    ]
    for candidate in candidates:
        register.register([candidate], GATE)
    store.client().delete_model_version(NAME, "3")
    assert (registry.rollback(NAME).champion, champion()) == (2, 2), "a deleted version is skipped"
    assert (registry.rollback(NAME).champion, champion()) == (1, 1)
    with pytest.raises(RegistryError, match="champion 1 is the first"):
        registry.rollback(NAME)
    for settings in (GATE, GATE.model_copy(update={"guards": ()})):
        assert not register.register([candidates[3]], settings).promoted, "what was taken back returns by hand only"
    assert registry.promote(NAME, "challenger").champion == champion() == 4
    assert "withdrawn" not in tags(4) and tags(4)["decision"] == "promoted: by hand"
    assert not registry.promote(NAME, "4").promoted
    assert registry.rollback(NAME).champion == 1
    with pytest.raises(RegistryError, match=r"no version or alias '7'; expected a version \(1 to 4\)"):
        registry.promote(NAME, "7")


# --- decisions --------------------------------------------------------------------------------------------------------


def records() -> list[dict[str, Any]]:
    """What was written down with the versions' runs, in order."""
    client = store.client()
    found = []
    for row in registry.models(NAME):
        for item in client.list_artifacts(row.run_id, "decisions"):
            found.append(json.loads(Path(client.download_artifacts(row.run_id, item.path)).read_text()))
    return sorted(found, key=lambda record: record["time"])


def test_every_decision_is_written_down_once_with_its_figures(model_number: ModelMaker) -> None:
    first = Candidate(model_number(1), scored(1.0))
    register.register([first], GATE)
    register.register([first], GATE)
    second = register.register([Candidate(model_number(2), scored(0.9))], GATE)
    registry.rollback(NAME)
    registry.promote(NAME, 2)
    registry.promote(NAME, 2)
    found = records()
    assert [(one["action"], one["version"], one["champion"], one["previous"]) for one in found] == [
        ("register", 1, 1, None),
        ("register", 2, 2, 1),
        ("rollback", 1, 1, 2),
        ("promote", 2, 2, 1),
    ]
    assert found[1] == json.loads(json.dumps(second.record))
    main = found[1]["comparisons"][0]
    assert (main["metric"], main["candidate"], main["champion"], main["fault"]) == ("overall.all.lsd", 0.9, 1.0, "")
    assert main["gain"]["sources"] == 8 and main["against"] == "champion"
    assert main["gain"]["lower"] == pytest.approx(0.1)
    assert (found[1]["settings"]["samples"], found[1]["asked"], found[2]["withdrawn"]) == (2, 1, 2)


def test_champion_whose_kept_scores_are_damaged_is_scored_again(model_number: ModelMaker, project: Path) -> None:
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    (kept,) = (project / "mlruns").rglob("scores.csv")
    kept.write_text("damaged")
    assert not register.register([Candidate(model_number(2), scored(0.9))], GATE).promoted
    again = register.register([Candidate(model_number(2), scored(0.91))], GATE, lambda folder: scored(1.0))
    assert again.promoted


def test_version_whose_run_is_gone_can_be_beaten_and_promoted(
    model_number: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    register.register([Candidate(model_number(1), scored(0.5, test_set="easy"))], GATE)
    gone = store.client().get_model_version(NAME, "1").run_id
    log_text = MlflowClient.log_text

    def refuse(client: MlflowClient, run_id: str, text: str, path: str) -> None:
        if run_id == gone:
            raise MlflowException("no such run")
        log_text(client, run_id, text, path)

    monkeypatch.setattr(MlflowClient, "log_text", refuse)
    assert register.register([Candidate(model_number(2), scored(0.9))], GATE, lambda folder: scored(1.0)).promoted
    assert registry.promote(NAME, 1).promoted


def test_failing_command_ends_the_promotion_with_an_error_and_the_champion_stands(
    model_number: ModelMaker, project: Path
) -> None:
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    register.register([Candidate(model_number(2), scored(1.1))], GATE)
    text = (ROOT / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("on_champion: null", "on_champion: cat > given.json; exit 3"))
    for command, now in ((["promote", f"models:/{NAME}/2"], 2), (["rollback"], 1)):
        result = CliRunner().invoke(cli.app, command)
        assert isinstance(result.exception, HookError), result.output
        assert f"version {now} is champion" in str(result.exception)
        assert champion() == json.loads((project / "given.json").read_text())["champion"] == now


# --- races ------------------------------------------------------------------------------------------------------------


def test_racing_registrations_leave_one_champion(model_number: ModelMaker) -> None:
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    candidates = [Candidate(model_number(2), scored(0.9)), Candidate(model_number(3), scored(0.8))]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda candidate: register.register([candidate], GATE), candidates))
    found = records()
    assert [one["previous"] for one in found] == [None, *(one["champion"] for one in found[:-1])]
    # Whoever was first: the better one is not beaten by the other.
    best = min(registry.models(NAME), key=lambda row: row.scores["overall.all.lsd"])
    assert champion() == best.version


# --- fetch ------------------------------------------------------------------------------------------------------------


def test_fetched_folder_is_the_registered_one_and_made_again_where_it_is_damaged(
    model_number: ModelMaker, project: Path
) -> None:
    folder, cache = model_number(1), project / "cache"
    register.register([Candidate(folder, scored(1.0))], GATE)
    fetched = fetch.fetch(NAME, "champion", cache)
    assert fetch.fetch(NAME, 1, cache) == fetched
    assert [path.name for path in cache.glob("[!.]*")] == [fetched.name]
    for damage in (None, packaging.WEIGHTS, "planted.onnx"):
        if damage:
            (fetched / damage).write_bytes(b"bad")
        assert fetch.fetch(NAME, "champion", cache) == fetched
        assert packaging.digested(fetched) == packaging.digested(folder)


@pytest.mark.parametrize("name", [packaging.WEIGHTS, "config.json", "model.onnx"])
def test_each_file_of_a_version_is_checked(model_number: ModelMaker, project: Path, name: str) -> None:
    folder = model_number(1)
    (folder / "model.onnx").write_bytes(b"a graph")
    register.register([Candidate(folder, scored(1.0))], GATE)
    (stored,) = (project / "mlruns").rglob(name)
    stored.write_bytes(stored.read_bytes() + b" ")
    with pytest.raises(RegistryError, match=r"version 1: the stored (weights are|.* is) not (those|what)"):
        fetch.fetch(NAME, "champion", project / "cache")
    assert not list((project / "cache").iterdir())


def test_files_that_nothing_vouches_for_are_left_out(model_number: ModelMaker, project: Path) -> None:
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    (stored,) = (project / "mlruns").rglob(packaging.WEIGHTS)
    (stored.parent / "model.onnx").write_bytes(b"planted")
    fetched = fetch.fetch(NAME, "champion", project / "cache")
    assert {path.name for path in fetched.iterdir()} >= set(packaging.REQUIRED)
    assert not (fetched / "model.onnx").exists()


def test_version_without_digests_of_its_files_is_refused(model_number: ModelMaker, project: Path) -> None:
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    for damaged in ("[]", '{"../escape": "0"}', None):
        if damaged is None:
            store.client().delete_model_version_tag(NAME, "1", "files_sha256")
        else:
            store.client().set_model_version_tag(NAME, "1", "files_sha256", damaged)
        with pytest.raises(RegistryError, match="its tag files_sha256 is damaged or missing"):
            fetch.fetch(NAME, "champion", project / "cache")


# --- start-up ---------------------------------------------------------------------------------------------------------
