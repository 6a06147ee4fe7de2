"""Laws of the way back: what a version came from is found again, and whatever was changed since is noticed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import ROOT, ModelMaker
from overtone import cli, settings
from overtone.data.shards import INDEX, Index, Shard
from overtone.registry import lineage, packaging, register, reproduction, versions
from overtone.registry.lineage import Origin
from overtone.registry.register import Candidate
from overtone.registry.reproduction import ReproductionError
from overtone.registry.versions import RegistryError
from overtone.tracking import dvc, evaluations, provenance, runs, store
from overtone.tracking import git as repository_git
from overtone.tracking.provenance import Shards
from overtone.tracking.store import TrackingError
from test_registry import GATE, NAME, light_log, scored

DATA = f"{'ab' * 16}.dir"


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write_lock(**outputs: str) -> None:
    """A `dvc.lock` with the digest of each stage's output."""
    stages = "".join(f"  {name}:\n    outs:\n    - md5: {md5}\n" for name, md5 in outputs.items())
    Path("dvc.lock").write_text(f"stages:\n{stages}")


def write_made(what: str, content: str) -> str:
    """The output of a stage with its manifest, and DVC's digest of it, whose listing is in the cache."""
    manifest = Path("work") / what / "manifest.csv"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(content)
    listing = [{"md5": dvc.file_md5(manifest), "relpath": "manifest.csv"}]
    digest = dvc.folder_md5({"manifest.csv": listing[0]["md5"]})
    cached = Path(".dvc/cache/files/md5") / digest[:2] / digest[2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_text(json.dumps(listing))
    return digest


@pytest.fixture
def repository(project: Path) -> Path:
    """A committed project with settings, a pointer to data, and a lock that names the corpus."""
    (project / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (project / "data.dvc").write_text(f"outs:\n- md5: {DATA}\n  path: data\n")
    (project / "code.py").write_text("first\n")
    (project / ".gitignore").write_text("/mlruns/\n/mlflow.db*\n/models/\n/.dvc/\n/work/\n/.overtone/\n")
    write_lock(corpus=write_made("corpus", "corpus"))
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    return project


Trainer = Callable[..., str]


@pytest.fixture
def trained(repository: Path, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """Records a run of the project's own settings, registers a model of it as champion, and gives the run's id."""
    monkeypatch.setattr(packaging, "log", light_log)

    def train(shards: Shards | None = None) -> str:
        with runs.TrainingRun("rnn", settings.load(repository / "params.yaml"), shards=shards) as run:
            summary = run.summary()
        folder = make_model("rnn", **summary)
        made = scored(1.0)
        (repository / "report").mkdir(exist_ok=True)
        evaluations.log(folder, made.metrics, repository / "report")
        register.register([Candidate(folder, made)], GATE)
        return run.run_id

    return train


def trace() -> Origin:
    return lineage.trace(NAME, "champion")


def states(found: Origin) -> dict[str, str]:
    return {link.what: link.state for link in found.links}


def stored(project: Path, name: str) -> Path:
    """A file among the store's artifacts."""
    (found,) = (project / "mlruns").rglob(name)
    return found


# --- addresses --------------------------------------------------------------------------------------------------------


def test_address_names_model_and_version() -> None:
    assert versions.address("models:/overtone@champion", "mine") == ("overtone", "champion")
    assert versions.address("models:/other/3", "mine") == ("other", "3")
    assert versions.address(" 3 ", "mine") == ("mine", "3")
    for text in ("models:/overtone", "models:/overtone/latest", "models:/m-0123"):
        with pytest.raises(RegistryError, match="expected models:/mine@champion"):
            versions.address(text, "mine")


# --- lineage ----------------------------------------------------------------------------------------------------------


def test_version_of_a_clean_commit_leads_back_without_a_gap(trained: Trainer) -> None:
    run_id = trained()
    found = trace()
    assert states(found) == dict.fromkeys(("weights", "run", "scores", "commit", "settings", "data", "corpus"), "ok"), (
        lineage.text(found)
    )
    text = lineage.text(found)
    for part in (run_id, git("rev-parse", "HEAD"), DATA, "overtone reproduce 1"):
        assert part in text


def test_shards_that_a_training_read_are_compared_with_those_there_now(trained: Trainer) -> None:
    shard = Shard(name="train-00000-000000000000.tar", samples=1, bytes=1, sha256="0" * 64)
    index = Index(train=(shard,), valid=(shard,))
    place = Path("work/shards")
    place.mkdir(parents=True)
    (place / INDEX).write_text(index.text())
    trained(Shards(str(place), index.digest))
    assert states(trace())["shards"] == "ok"
    (place / INDEX).write_text(index.model_copy(update={"valid": ()}).text())
    assert states(trace())["shards"] == "differs"
    (place / INDEX).unlink()
    assert states(trace())["shards"] == "unknown"


def test_uncommitted_changes_are_kept_and_said(trained: Trainer, repository: Path) -> None:
    Path("code.py").write_text("second\n")
    trained()
    git("checkout", "-q", "code.py")
    found = trace()
    assert states(found)["commit"] == states(found)["settings"] == "ok"
    assert found.dirty and found.patch and b"+second" in found.patch
    assert "uncommitted changes, kept with the run" in lineage.text(found)
    stored(repository, provenance.PATCH).write_text("other")
    assert states(trace())["commit"] == "differs"
    stored(repository, provenance.PATCH).unlink()
    lost = trace()
    assert states(lost)["commit"] == "unknown"
    assert "cannot be made again" in lineage.text(lost)


def test_new_files_are_kept_unless_they_are_data_or_private(trained: Trainer, repository: Path) -> None:
    Path("code.py").write_text("import new\n")
    Path("new.py").write_text("made = 1\n")
    Path("deep").mkdir()
    Path("deep/naïve name.txt").write_text("text\n")
    Path("voice.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    Path("large.csv").write_text("1,2\n" * (repository_git.NEW_FILE_BYTES // 4 + 1))
    Path(".env").write_text("MLFLOW_TRACKING_PASSWORD=secret\n")
    with Path(".gitignore").open("a") as file:
        file.write("/report/\n")
    index = Path(".git/index").read_bytes()
    trained()
    assert Path(".git/index").read_bytes() == index, "the user's index is left alone"
    found = trace()
    assert found.patch is not None
    for part, kept in (
        ("new.py", True),
        ("made = 1", True),
        ("voice.wav", False),
        ("large.csv", False),
        ("secret", False),
    ):
        assert (part.encode() in found.patch) is kept, part
    (run,) = store.client().search_runs(["1"])
    assert run.data.tags[provenance.LEFT_OUT] == "2 new files: large.csv, voice.wav"
    assert "without 2 new files: large.csv, voice.wav" in lineage.text(found)
    with reproduction._worktree(found, repository, keep=False) as folder:
        assert (folder / "new.py").read_text() == "made = 1\n"
        assert (folder / "deep" / "naïve name.txt").read_text() == "text\n"
        assert not (folder / "voice.wav").exists()


def test_changes_that_are_too_large_are_left_out(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PATCH_BYTES", 10)
    Path("code.py").write_text("second\n")
    found = provenance.take(settings.load(Path("params.yaml")))
    assert provenance.PATCH not in found.files and found.left_out.startswith("all changes: ")


def tamper_weights(project: Path) -> None:
    stored(project, packaging.WEIGHTS).write_bytes(b"other")


def tamper_scores(project: Path) -> None:
    stored(project, "scores.csv").write_text("other")


def tamper_data(project: Path) -> None:
    store.client().set_model_version_tag(NAME, "1", "data_digest", "other.dir")


def tamper_commit(project: Path) -> None:
    Path("code.py").write_text("second\n")
    git("commit", "-qam", "other code")
    store.client().set_model_version_tag(NAME, "1", "git_commit", git("rev-parse", "HEAD"))


def tamper_settings(project: Path) -> None:
    kept = stored(project, "params.yaml")
    kept.write_text(kept.read_text().replace("frames: 300", "frames: 301"))


def tamper_lock(project: Path) -> None:
    client = store.client()
    run = client.get_model_version(NAME, "1").run_id
    assert run
    client.set_tag(run, "corpus_manifest", "other")


@pytest.mark.parametrize(
    ("tamper", "broken"),
    [
        (tamper_weights, {"weights"}),
        (tamper_scores, {"scores"}),
        (tamper_data, {"run", "data"}),
        (tamper_commit, {"run"}),
        (tamper_settings, {"settings"}),
        (tamper_lock, {"corpus"}),
    ],
)
def test_whatever_was_changed_is_noticed(
    trained: Trainer, repository: Path, tamper: Callable[[Path], None], broken: set[str]
) -> None:
    trained()
    assert CliRunner().invoke(cli.app, ["lineage"]).exit_code == 0
    tamper(repository)
    assert CliRunner().invoke(cli.app, ["lineage", f"models:/{NAME}@champion"]).exit_code == 1
    found = trace()
    assert {what for what, state in states(found).items() if state == "differs"} == broken, lineage.text(found)
    assert not found.holds


def test_settings_of_the_run_are_compared_one_by_one(trained: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    load = settings.load
    changed = ("train.rnn.extend.layers=7", "train.cnn.extend.blocks=7", "evaluate.figures=0")
    with monkeypatch.context() as patch:
        patch.setattr(settings, "load", lambda path: load(path, changed))
        trained()
    (link,) = (link for link in trace().links if link.what == "settings")
    assert link.state == "differs"
    assert link.note.endswith("the run has another train.rnn.extend.layers")


def test_model_of_another_store_is_unknown_and_no_fault(
    repository: Path, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaging, "log", light_log)
    folder = make_model("rnn", run_id="f" * 32, commit=git("rev-parse", "HEAD"), data_digest=DATA)
    register.register([Candidate(folder, scored(1.0))], GATE)
    found = trace()
    assert found.holds
    assert states(found)["run"] == states(found)["settings"] == states(found)["commit"] == "unknown"


def test_digest_of_a_folder_is_that_of_dvc(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    for name, content in {"weights": b"w", "a.json": b"{}", "deep/Z.csv": b"1,2\n"}.items():
        (tmp_path / "out" / name).write_bytes(content)
    for command in (["dvc", "init", "-q", "--no-scm"], ["dvc", "add", "-q", "out"]):
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert dvc.pointed((tmp_path / "out.dvc").read_bytes()) == dvc.digest(tmp_path / "out", tmp_path / "memory.json")


# --- what reproduction needs ------------------------------------------------------------------------------------------


def made(commit: str = "", **changes: Any) -> Origin:
    facts: dict[str, Any] = {
        "name": NAME, "version": 1, "model": "rnn", "run_id": "f" * 32, "commit": commit or git("rev-parse", "HEAD"),
        "dirty": False, "patch": None, "corpus": "data", "weights_sha256": "0" * 64, "test_set": "a",
        "metrics": {"overall.all.lsd": 1.0, "overall.all.snr": 2.0},
    }  # fmt: skip
    return Origin(**(facts | changes))


def test_what_cannot_be_reproduced_is_reported_at_once(repository: Path) -> None:
    cases: dict[str, dict[str, Any]] = {
        "commit c0ffee.* is not in this clone": {"commit": "c0ffee" * 6 + "abcd"},
        "trained with uncommitted changes, which its run did not keep": {"dirty": True},
        "its scores were not kept": {"metrics": {}},
    }
    for message, changes in cases.items():
        with pytest.raises(ReproductionError, match=message):
            reproduction.reproduce(made(**changes))


def test_worktree_holds_the_commit_and_what_was_not_committed(repository: Path) -> None:
    origin = made()
    Path("code.py").write_text("second\n")
    Path("binary").write_bytes(bytes(range(256)))
    git("add", "-N", "binary")
    changed = made(origin.commit, dirty=True, patch=repository_git.patch(repository))
    git("commit", "-qam", "later")
    for one, content in ((origin, "first\n"), (changed, "second\n")):
        with reproduction._worktree(one, repository, keep=False) as folder:
            assert (folder / "code.py").read_text() == content
            assert (folder / "binary").exists() is one.dirty
        assert not folder.exists()
    assert git("worktree", "list").count("\n") == 0


def test_reproduction_runs_only_what_the_model_needs_and_compares(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def pretend(command: list[str], folder: Path, environment: dict[str, str]) -> None:
        if command[0] == "git":
            subprocess.run(command, cwd=folder, check=True)
            return
        commands.append(command[3:])
        assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{folder}/mlflow.db"
        assert environment["PYTHONPATH"].startswith(str(folder / "src"))
        assert "DVC_ROOT" not in environment
        for name, content in (
            ("reports/rnn/metrics.json", json.dumps(report)),
            ("models/rnn/weights.safetensors", "w"),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)

    report: dict[str, Any] = {"test_set": "a", "overall": {"all": {"lsd": 1.0, "snr": 2.5}}}
    monkeypatch.setattr(reproduction, "_run", pretend)
    monkeypatch.setattr(reproduction, "_fetch_data", lambda *_: None)
    origin = made(weights_sha256=hashlib.sha256(b"w").hexdigest())
    outcome = reproduction.reproduce(origin)
    assert commands == [["repro", "--force", "evaluate@rnn"]]
    assert (outcome.largest, outcome.weights, outcome.test_set, outcome.folder) == (0.5, True, True, None)
    text = reproduction.text(outcome)
    assert "| overall.all.snr | 2.000000 | 2.500000 | 0.5 |" in text
    assert "weights: identical to the byte; test set: identical" in text
    report["overall"]["all"].pop("snr")
    kept = reproduction.reproduce(origin, keep=True)
    assert kept.largest == float("inf") and kept.folder is not None and kept.folder.is_dir()


# --- what is noted ----------------------------------------------------------------------------------------------------


def test_commit_while_a_training_runs_is_not_its_commit(
    repository: Path, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are other settings, data and changes that come meanwhile: all is as it was before the first batch."""
    monkeypatch.setattr(packaging, "log", light_log)
    before = git("rev-parse", "HEAD")
    with runs.TrainingRun("rnn", settings.load(repository / "params.yaml")) as run:
        Path("code.py").write_text("second\n")
        write_made("corpus", "made again")
        git("commit", "-qam", "while it trains")
        Path("code.py").write_text("third\n")
        summary = run.summary()
    assert (summary["commit"], summary["dirty"]) == (before, False)
    register.register([Candidate(make_model("rnn", **summary), scored(1.0))], GATE)
    assert store.client().get_model_version(NAME, "1").tags["git_commit"] == before
    found = trace()
    assert found.holds and found.commit == before and not found.dirty
    assert states(found)["corpus"] == "ok"


def test_corpus_of_a_stage_run_by_hand_is_not_the_one_that_the_lock_names(trained: Trainer) -> None:
    write_made("corpus", "made with other settings")
    trained()
    found = trace()
    assert states(found)["corpus"] == "differs"
    assert not found.holds


def test_data_on_disk_is_noted_and_not_what_the_pointer_names(trained: Trainer, repository: Path) -> None:
    (repository / "data" / "speech").mkdir(parents=True)
    (repository / "data" / "speech" / "a.wav").write_bytes(b"recorded later")
    trained()
    (link,) = (link for link in trace().links if link.what == "data")
    assert link.state == "differs", link
    assert DATA in link.note and DATA not in link.value


def test_folder_in_which_git_refuses_to_work_is_named(
    repository: Path, params: settings.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = (
        "fatal: detected dubious ownership in repository at '/work'\nTo add an exception for this directory, call:\n"
    )
    refused = subprocess.CompletedProcess([], 128, b"", message.encode())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(TrackingError, match=r"git config --global --add safe\.directory /work"):
        provenance.take(params)


def test_dirty_ignores_what_the_pipeline_writes_and_what_lies_outside(repository: Path) -> None:
    write_lock(corpus="other.dir")
    assert not repository_git.dirty(repository)
    (repository / "ml").mkdir()
    (repository / "ml" / "own.py").write_text("own\n")
    git("add", "ml")
    git("commit", "-qm", "a subfolder")
    Path("code.py").write_text("changed\n")
    assert repository_git.dirty(repository)
    assert not repository_git.dirty(repository / "ml")


def test_damaged_pointer_is_named(repository: Path, params: settings.Params) -> None:
    Path("data.dvc").write_text("outs: 7\n")
    with pytest.raises(TrackingError, match=r"data\.dvc: expected DVC's pointer file"):
        provenance.take(params)
