"""Laws of a tracking server that is away, or refuses: reported in a sentence within seconds, and no other error is hidden."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import ModelMaker
from overtone import audio, cli
from overtone.registry import register, resolve
from overtone.registry.register import Candidate
from overtone.tracking import journal, server, store
from overtone.tracking.server import AwayError
from test_registry import GATE, light_packaging, model_number, scored  # noqa: F401

SERVER = "https://ada:secret@mlflow.example/base"
# Nothing listens on it.
DEAD = "http://127.0.0.1:9"


# --- refusals -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def refusing(bare_project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")


@pytest.mark.parametrize(
    ("code", "expected"),
    [("UNAUTHENTICATED", "unknown user or wrong password"), ("PERMISSION_DENIED", "refused to ada: not yours")],
)
def test_refusal_names_the_server_without_its_password(refusing: None, code: str, expected: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    sentence = server.refusal(MlflowException("not\nyours", getattr(databricks_pb2, code)))
    assert sentence is not None
    assert sentence.startswith(f"https://mlflow.example/base: {expected}")
    assert "secret" not in sentence


def test_other_errors_keep_their_trace(refusing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    assert server.refusal(ValueError("bad")) is None
    assert server.refusal(MlflowException("bad")) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert server.refusal(MlflowException.invalid_parameter_value("bad")) is None


# --- away ---------------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that waits move on, for a server that lets every request run out of time."""

    def __init__(self) -> None:
        self.now, self.waited = 1_000.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waited += seconds

    def ask(self, _uri: str, _place: object, seconds: float) -> Exception:
        self.sleep(seconds)
        return TimeoutError("timed out")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(server, "time", made)
    monkeypatch.setattr(server, "_ask", made.ask)
    monkeypatch.setattr(server, "_last", ("", 0.0, None))
    return made


COMMANDS = (
    *("models", "promote challenger", "rollback", "lineage", "reproduce", "repair", "fetch champion out", "sync"),
    *("enhance in.wav out.wav", "stage register", "stage report"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_answers_within_ten_seconds(
    bare_project: Any, monkeypatch: pytest.MonkeyPatch, clock: Clock, command: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    monkeypatch.setattr("mlflow.MlflowClient", None)
    audio.write(bare_project / "in.wav", scaled(), 16_000)
    for run_id in ("a" * 32, "b" * 32, "c" * 32, "d" * 32, "e" * 32):
        with journal.Journal(run_id, {"store": DEAD}) as book:
            book.append("points", points=[("a", 1.0, 1, 1)])
    for name in ("cnn", "rnn", "baselines/sinc", "baselines/sbr", "baselines/concealer", "baselines/wiener"):
        (bare_project / "reports" / name).mkdir(parents=True)
        (bare_project / "reports" / name / "metrics.json").write_text("{}")
        (bare_project / "reports" / name / "scores.csv").write_text("")
    result = CliRunner().invoke(cli.app, command.split())
    assert isinstance(result.exception, store.TrackingError), (result.output, result.exception)
    assert "does not answer" in str(result.exception)
    assert 0 < clock.waited <= 10


def scaled() -> Any:
    import numpy as np

    return np.full((1, 1600), 0.1, np.float32)


def test_look_up_of_a_name_that_never_ends_is_waited_for_no_longer(
    bare_project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        ended.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert isinstance(server._ask("http://mlflow.example", ("mlflow.example", 80), 0.05), TimeoutError)
    ended.set()


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.2)


def test_server_that_is_away_is_reported_before_mlflow_is_asked(
    bare_project: Any, monkeypatch: pytest.MonkeyPatch, away: None
) -> None:
    monkeypatch.setattr("mlflow.MlflowClient", None)
    with silent_server() as silent:
        for uri in (DEAD, silent, "postgresql://nobody@127.0.0.1:9/mlflow"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            with pytest.raises(AwayError, match="does not answer"):
                store.client()


def test_any_answer_of_a_server_is_one(bare_project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listening.server_port}")
        server.require()
        listening.shutdown()


def test_cached_champion_serves_while_the_server_is_away(
    model_number: ModelMaker,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    away: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    folder, name = resolve.folder("auto")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    assert resolve.folder("auto") == (folder, name)
    assert "does not answer" in (printed := capsys.readouterr().err)
    assert f"going on with {folder}, fetched before as champion" in printed
    assert resolve.version("auto") == "1"
    assert resolve.folder("1")[0] == folder
    with pytest.raises(AwayError, match="'2' was not fetched before"):
        resolve.folder("2")
    (folder / "weights.safetensors").write_bytes(b"changed")
    with pytest.raises(AwayError):
        resolve.folder("champion")


def test_without_a_cached_champion_a_server_that_is_away_is_an_error_and_not_another_model(
    bare_project: Any, monkeypatch: pytest.MonkeyPatch, away: None
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    with pytest.raises(AwayError, match=r"'champion' was not fetched before \(`--model released` does without\)"):
        resolve.folder("auto")
