"""A tracking server that goes away while a training records: nothing of the run is missing afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import ModelMaker
from faults.harness import Ledger
from overtone.settings import Params
from overtone.tracking import journal, runs, server, store, transfer
from overtone.tracking.store import AwayError, TrackingError
from services import free_port

EPOCHS = 6


class Server:
    """MLflow's own server on the project's database, in this process, which goes away and comes back at one address."""

    def __init__(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port = free_port()
        self._running: Any = None
        for name, value in {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{project / 'mlflow.db'}",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(project / "mlartifacts"),
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        }.items():
            monkeypatch.setenv(name, value)
        # Both are kept for the life of a process.
        monkeypatch.setattr("mlflow.server.handlers._tracking_store", None)
        monkeypatch.setattr("mlflow.server.handlers._artifact_repo", None)
        # The first request opens the store, and makes it this process's own.
        from mlflow.server import app

        app.test_client().get("/api/2.0/mlflow/experiments/get?experiment_id=0")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{self.port}")

    def start(self) -> None:
        from mlflow.server import app
        from werkzeug.serving import WSGIRequestHandler, make_server

        # One request a connection: a thread would go on with those of a connection that is open.
        one = type("One", (WSGIRequestHandler,), {"protocol_version": "HTTP/1.0"})
        self._running = make_server("127.0.0.1", self.port, app, threaded=True, request_handler=one)
        threading.Thread(target=self._running.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._running.shutdown()
        self._running.server_close()


def log(run: runs.TrainingRun, epoch: int) -> None:
    logger = run.logger()
    assert logger
    logger.log_metrics({"extend_valid_lsd": 2.0 - epoch / 8, "extend_train_loss": 1.0 / (1 + epoch)}, step=10 * epoch)


def curve(run_id: str, name: str = "extend_valid_lsd") -> list[tuple[int, float]]:
    """Steps and values in the order of their times."""
    found = store.client().get_metric_history(run_id, name)
    return [(point.step, point.value) for point in sorted(found, key=lambda point: (point.timestamp, point.step))]


WHOLE = [(10 * epoch, 2.0 - epoch / 8) for epoch in range(EPOCHS)]


def test_server_that_dies_costs_nothing_of_the_run(
    project: Path,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ledger: Callable[[str], Ledger],
) -> None:
    """Away and back while a training goes on; then away for good, and what is left is uploaded afterwards, once."""
    back, gone = ledger("tracking server killed, and back"), ledger("tracking server killed for good")
    own = Server(project, monkeypatch)
    own.start()
    monkeypatch.setattr(server, "_FRESH_SECONDS", {True: 30.0, False: 0.0})
    with runs.TrainingRun("rnn", params) as first:
        log(first, 0)
        own.stop()
        back.tried()
        log(first, 1)
        log(first, 2)
        assert "away, training goes on" in capsys.readouterr().out
        own.start()
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
        own.stop()
        gone.tried()
        for epoch in range(1, EPOCHS):
            log(second, epoch)
    assert "`overtone sync` uploads it" in capsys.readouterr().out
    assert journal.kept() == [second.run_id]
    # It answered a moment ago, so that it is not asked whether it is there.
    monkeypatch.setattr(server, "_last", (store.tracking_uri(), time.monotonic(), None))
    for _ in range(2):
        with pytest.raises(AwayError, match="does not answer"):
            journal.sync(second.run_id)
    own.start()
    journal.sync(second.run_id)
    gone.same(dict(curve(second.run_id)), dict(WHOLE))
    assert store.client().get_run(second.run_id).info.status == "FINISHED"
    assert journal.kept() == []
    gone.survived()
    own.stop()


# --- what is kept while it is away --------------------------------------------------------------------------------------


@pytest.fixture
def own(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that is asked once and no longer whether it is there."""
    monkeypatch.setattr(server, "_FRESH_SECONDS", {True: 30.0, False: 0.0})
    monkeypatch.setattr(journal, "PATIENCE_SECONDS", 0.0)
    made = Server(project, monkeypatch)
    made.start()
    yield made
    made.stop()


def recorded(own: Server, params: Params, epochs: int = EPOCHS, fails: bool = False) -> str:
    """A run whose server was away after the first epoch, and is back now."""
    with suppress(KeyboardInterrupt), runs.TrainingRun("rnn", params) as run:
        log(run, 0)
        own.stop()
        for epoch in range(1, epochs):
            log(run, epoch)
        if fails:
            raise KeyboardInterrupt
    own.start()
    assert journal.kept() == [run.run_id]
    return run.run_id


def test_upload_killed_in_the_middle_is_completed_by_the_next(own: Server, params: Params) -> None:
    run_id = recorded(own, params)
    script = f"""
import os, signal
from overtone.tracking import entries, journal
log_points = entries.log_points
def killing(*arguments):
    log_points(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
entries.log_points = killing
journal.sync({run_id!r})
"""
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    journal.sync(run_id)
    assert curve(run_id) == WHOLE and journal.kept() == []
    experiments = [one.experiment_id for one in store.client().search_experiments()]
    assert len(store.client().search_runs(experiments)) == 1


def test_points_are_uploaded_with_their_times(own: Server, params: Params) -> None:
    before = journal.now()
    run_id = recorded(own, params)
    after = journal.now()
    journal.sync(run_id)
    stamps = [point.timestamp for point in store.client().get_metric_history(run_id, "extend_valid_lsd")]
    assert before <= min(stamps) and max(stamps) <= after
    assert before <= store.client().get_run(run_id).info.end_time <= after


def test_interrupted_training_goes_on_with_what_its_journal_kept(own: Server, params: Params) -> None:
    run_id = recorded(own, params, epochs=2, fails=True)
    with runs.TrainingRun("rnn", params, resume=run_id) as second:
        log(second, 2)
    assert second.run_id == run_id
    assert curve(run_id) == WHOLE[:3]
    assert store.client().get_run(run_id).info.status == "FINISHED"


def test_line_cut_off_by_a_kill_is_dropped_and_the_model_brings_the_rest_along(
    own: Server, params: Params, make_model: ModelMaker
) -> None:
    run_id = recorded(own, params)
    with (journal.folder() / f"{run_id}.jsonl").open("ab") as file:
        file.write(b'{"kind": "points", "poi')
    assert transfer.open_run(make_model(run_id=run_id)) == run_id
    assert curve(run_id) == WHOLE and journal.kept() == []


def test_training_without_its_server_is_refused_in_a_sentence(own: Server, params: Params) -> None:
    own.stop()
    with pytest.raises(AwayError, match=r"http://127\.0\.0\.1:\d+: does not answer .* by an empty MLFLOW_TRACKING_URI"):
        runs.TrainingRun("rnn", params).__enter__()
    own.start()


def test_journal_that_is_being_written_or_of_another_store_is_left_alone(
    project: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runs.TrainingRun("rnn", params) as run, pytest.raises(TrackingError, match="another process is recording"):
        journal.sync(run.run_id)
    with journal.Journal("a" * 32, {"store": "https://elsewhere.example"}) as book:
        book.append("tags", values={"a": "b"})
    with pytest.raises(TrackingError, match="belongs to https://elsewhere"):
        journal.sync("a" * 32)
    assert journal.kept() == ["a" * 32]
