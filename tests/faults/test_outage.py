"""A tracking server that goes away while a training records: nothing of the run is missing afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import ModelMaker
from faults.harness import Ledger
from overtone.settings import Params
from overtone.tracking import journal, runs, store, transfer
from overtone.tracking.store import TrackingError
from services import free_port, running

EPOCHS = 6


@contextmanager
def server(folder: Path, port: int, environment: dict[str, str]) -> Iterator[None]:
    """A real `mlflow server` on the project's database."""
    address = f"http://127.0.0.1:{port}"
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", 1]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "mlartifacts")]
    quiet = environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def ready() -> None:
        with urllib.request.urlopen(f"{address}/health", timeout=2):
            pass

    with running(command, ready, folder / "server.log", quiet, stop=signal.SIGKILL):
        yield


def log(run: runs.TrainingRun, epoch: int) -> None:
    logger = run.logger()
    assert logger
    logger.log_metrics({"extend_valid_lsd": 2.0 - epoch / 8, "extend_train_loss": 1.0 / (1 + epoch)}, step=10 * epoch)


def curve(run_id: str, name: str = "extend_valid_lsd") -> list[tuple[int, float]]:
    """Steps and values in the order of their times."""
    found = store.client().get_metric_history(run_id, name)
    return [(point.step, point.value) for point in sorted(found, key=lambda point: (point.timestamp, point.step))]


WHOLE = [(10 * epoch, 2.0 - epoch / 8) for epoch in range(EPOCHS)]


@pytest.mark.slow
# Long: a server that is started again needs some seconds on a busy machine before it answers.
@pytest.mark.faults
def test_server_that_dies_costs_nothing_of_the_run(
    project: Path,
    params: Params,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ledger: Callable[[str], Ledger],
) -> None:
    """Away and back while a training goes on; then away for good, and what is left is uploaded afterwards, once."""
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    back, gone = ledger("tracking server killed, and back"), ledger("tracking server killed for good")
    with ExitStack() as stack:
        stack.enter_context(server(project, port, environment))
        with runs.TrainingRun("rnn", params) as first:
            log(first, 0)
            stack.close()
            back.tried()
            log(first, 1)
            log(first, 2)
            assert "away, training goes on" in capsys.readouterr().out
            stack.enter_context(server(project, port, environment))
            monkeypatch.setattr(journal, "PAUSES", (0.0,))
            first._book._next = 0.0  # type: ignore[union-attr]
            for epoch in range(3, EPOCHS):
                log(first, epoch)
            assert "nothing is missing" in capsys.readouterr().out
        back.same(dict(curve(first.run_id)), dict(WHOLE))
        assert store.client().get_run(first.run_id).info.status == "FINISHED"
        assert journal.kept() == []
        back.survived()

        monkeypatch.setattr(journal, "PATIENCE_SECONDS", 0.0)
        with runs.TrainingRun("rnn", params) as second:
            log(second, 0)
            stack.close()
            gone.tried()
            for epoch in range(1, EPOCHS):
                log(second, epoch)
        assert "`overtone sync` uploads it" in capsys.readouterr().out
        assert journal.kept() == [second.run_id]
        monkeypatch.setattr(store.require, "__defaults__", (0.0,))
        with pytest.raises(TrackingError, match="does not answer"):
            journal.sync(second.run_id)
        stack.enter_context(server(project, port, environment))
        own = dict(os.environ) | {"PATH": environment["PATH"]}
        told = subprocess.run(["overtone", "sync"], cwd=project, env=own, text=True, capture_output=True, check=False)
        assert told.returncode == 0, told.stderr
        assert second.run_id in told.stdout
        gone.same(dict(curve(second.run_id)), dict(WHOLE))
        assert store.client().get_run(second.run_id).info.status == "FINISHED"
        assert journal.kept() == []
        gone.survived()


# --- without a server from the beginning --------------------------------------------------------------------------------


@pytest.fixture
def offline(project: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("OVERTONE_OFFLINE", "1")
    return monkeypatch


def recorded(params: Params, epochs: int = EPOCHS) -> str:
    with runs.TrainingRun("rnn", params) as run:
        for epoch in range(epochs):
            log(run, epoch)
    return run.run_id


def interrupted(run: runs.TrainingRun, epoch: int) -> None:
    log(run, epoch)
    raise KeyboardInterrupt


def everything(run_id: str) -> dict[str, Any]:
    run = store.client().get_run(run_id)
    tags = {name: text for name, text in run.data.tags.items() if name not in (journal.KNOWN_AS, "mlflow.artifacts")}
    artifacts = sorted(one.path for one in store.client().list_artifacts(run_id, "source"))
    datasets = [(one.dataset.name, one.dataset.digest) for one in (run.inputs.dataset_inputs if run.inputs else [])]
    return {"params": dict(run.data.params), "tags": tags, "source": artifacts, "data": datasets} | {
        "status": run.info.status,
        "name": run.info.run_name,
        "curves": {name: curve(run_id, name) for name in run.data.metrics},
    }


def test_run_recorded_offline_is_uploaded_as_one_that_was_not(
    offline: pytest.MonkeyPatch, project: Path, params: Params
) -> None:
    local = recorded(params)
    assert store.client().search_runs(["0"]) == []
    began = journal.Journal(local)
    points = [line for line in began.pending if line["kind"] == "points"]
    began.close()
    offline.delenv("OVERTONE_OFFLINE")
    known, _ = journal.sync(local)
    assert journal.kept() == []
    direct = recorded(params)
    assert everything(known) == everything(direct)
    stamps = [point.timestamp for point in store.client().get_metric_history(known, "extend_valid_lsd")]
    assert sorted(stamps) == sorted(
        point[2] for line in points for point in line["points"] if point[0] == "extend_valid_lsd"
    )
    info = store.client().get_run(known).info
    assert info.start_time <= min(stamps) and info.end_time >= max(stamps)


@pytest.mark.parametrize("after", [3, *(pytest.param(one, marks=pytest.mark.faults) for one in (1, 6))])
def test_upload_killed_in_the_middle_is_completed_by_the_next(
    offline: pytest.MonkeyPatch, project: Path, params: Params, after: int
) -> None:
    local = recorded(params)
    offline.delenv("OVERTONE_OFFLINE")
    script = f"""
import os, signal
from overtone.tracking import journal, upload
sent = 0
def killing(sender):
    def send(client, run_id, line):
        global sent
        sender(client, run_id, line)
        sent += 1
        if sent == {after}:
            os.kill(os.getpid(), signal.SIGKILL)
    return send
upload._SENDERS.update({{name: killing(sender) for name, sender in upload._SENDERS.items()}})
journal.sync({local!r})
"""
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), capture_output=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    known = journal.sync(local)[0] if journal.kept() else journal.find(store.client(), local)
    assert known is not None
    assert curve(known) == WHOLE
    experiments = [one.experiment_id for one in store.client().search_experiments()]
    assert len(store.client().search_runs(experiments)) == 1


def test_interrupted_offline_training_goes_on_in_the_same_journal_and_then_in_the_store(
    offline: pytest.MonkeyPatch, project: Path, params: Params
) -> None:
    with pytest.raises(KeyboardInterrupt), runs.TrainingRun("rnn", params) as first:
        interrupted(first, 0)
    with pytest.raises(KeyboardInterrupt), runs.TrainingRun("rnn", params, resume=first.run_id) as second:
        interrupted(second, 1)
    assert second.run_id == first.run_id
    offline.delenv("OVERTONE_OFFLINE")
    with runs.TrainingRun("rnn", params, resume=first.run_id) as third:
        log(third, 2)
    assert curve(third.run_id) == WHOLE[:3]
    assert store.client().get_run(third.run_id).info.status == "FINISHED"


def test_line_cut_off_by_a_kill_is_dropped_and_the_rest_kept(
    offline: pytest.MonkeyPatch, project: Path, params: Params
) -> None:
    local = recorded(params)
    path = journal.folder() / f"{local}.jsonl"
    with path.open("ab") as file:
        file.write(b'{"kind": "points", "poi')
    offline.delenv("OVERTONE_OFFLINE")
    assert curve(journal.sync(local)[0]) == WHOLE


def test_model_of_a_run_not_yet_uploaded_brings_it_along(
    offline: pytest.MonkeyPatch, project: Path, params: Params, make_model: ModelMaker
) -> None:
    local = recorded(params)
    folder = make_model(run_id=local)
    with pytest.raises(TrackingError, match="unset OVERTONE_OFFLINE"):
        transfer.open_run(folder)
    offline.delenv("OVERTONE_OFFLINE")
    known = transfer.open_run(folder)
    assert curve(known) == WHOLE and transfer.open_run(folder) == known and journal.kept() == []


def test_training_without_its_server_is_refused_in_a_sentence(
    project: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(store.require, "__defaults__", (0.0,))
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:\d+: does not answer .* OVERTONE_OFFLINE=1"):
        runs.TrainingRun("rnn", params).__enter__()


def test_journal_that_is_being_written_is_left_alone(
    offline: pytest.MonkeyPatch, project: Path, params: Params
) -> None:
    with runs.TrainingRun("rnn", params) as run:
        log(run, 0)
        with pytest.raises(TrackingError, match="another process is recording"):
            journal.sync(run.run_id)
    with suppress(FileNotFoundError):
        assert (journal.folder() / f"{run.run_id}.jsonl").stat().st_size > 0


def test_run_of_another_store_is_not_uploaded_to_this_one(
    project: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal.Journal("a" * 32, {"store": "https://elsewhere.example", "local": False}) as book:
        book.append("tags", values={"a": "b"})
    with pytest.raises(TrackingError, match="belongs to https://elsewhere"):
        journal.sync("a" * 32)
    assert journal.kept() == ["a" * 32]
