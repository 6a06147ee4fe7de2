"""Laws of refusals: what a tracking server refuses is told in a sentence, and no other error is hidden by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from overtone import cli
from overtone.registry import registry
from overtone.tracking import failures, store

SERVER = "https://ada:secret@mlflow.example/base"


@pytest.fixture
def server(bare_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")


@pytest.mark.parametrize(
    ("code", "told"),
    [("UNAUTHENTICATED", "unknown user or wrong password"), ("PERMISSION_DENIED", "refused to ada: not yours")],
)
def test_refusal_names_the_server_without_its_password(server: None, code: str, told: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    sentence = failures.sentence(MlflowException("not\nyours", getattr(databricks_pb2, code)))
    assert sentence is not None
    assert sentence.startswith(f"https://mlflow.example/base: {told}")
    assert "secret" not in sentence


def test_other_errors_keep_their_trace(server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    assert failures.sentence(ValueError("bad")) is None
    assert failures.sentence(MlflowException("bad")) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert failures.sentence(MlflowException.invalid_parameter_value("bad")) is None


def test_server_that_is_not_there_is_named(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Port 9 is never listened on.
    monkeypatch.setattr(store.require, "__defaults__", (0.2,))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(cli, "app", lambda: registry.models("overtone"))
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    assert capsys.readouterr().err.startswith("overtone: http://127.0.0.1:9: does not answer (")
