"""Laws of a training that diverges: it ends before the weights are spoilt, says why, and keeps the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from overtone.cli import app
from overtone.models.restore import Restore
from overtone.training import failure
from overtone.training.failure import DivergedError, FailureError
from test_training import small, task_of, train


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its fifth step on `restore` makes no numbers."""
    plain, calls = Restore.forward, iter(range(10**6))

    def forward(self: Restore, features: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        values, state = plain(self, features, state)
        late = self.training and next(calls) >= 5
        return values * (float("nan") if late else 1.0), state

    monkeypatch.setattr(Restore, "forward", forward)


@pytest.fixture
def kept(tmp_path: Path, corpus_folder: Path, broken: None) -> Path:
    """The folder of a failure."""
    with pytest.raises(DivergedError, match=r"restore: loss is not finite at step 5.*overtone failure") as error:
        train(tmp_path, corpus_folder, "train.extend.steps=4")
    assert error.value.folder is not None and not (tmp_path / "model").exists()
    return error.value.folder


def test_diverged_training_keeps_the_batch_and_the_weights_before(kept: Path, corpus_folder: Path) -> None:
    assert kept.name == "failure-step-5"
    content = torch.load(kept / failure.STEP, weights_only=True)
    batch = task_of("restore", corpus_folder).draw(5, range(4))
    for found, expected in zip(content["parts"][0], batch, strict=True):
        assert torch.equal(found, expected)
    assert all(value.isfinite().all() for value in content["network"].values())
    facts = failure.read(kept)
    assert (facts["task"], facts["step"], facts["losses"]) == ("restore", 5, ["nan"])


def test_command_says_why_and_how_to_go_on(kept: Path) -> None:
    result = CliRunner().invoke(app, ["failure", str(kept)])
    assert result.exit_code == 0
    assert "restore: loss is not finite at step 5" in result.stdout
    assert "overtone stage train --model rnn --set train.restore.learning_rate=" in result.stdout


def test_gradient_that_is_no_number_ends_the_training_before_the_step(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * float("inf")

    plain = Restore.forward

    def forward(self: Restore, features: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        values, state = plain(self, features, state)
        return Broken.apply(values), state

    monkeypatch.setattr(Restore, "forward", forward)
    with pytest.raises(DivergedError, match="restore: gradient is not finite at step 0"):
        train(tmp_path, corpus_folder, "train.extend.steps=4")
    (folder,) = tmp_path.glob("checkpoints/restore/failure-*")
    assert "gradients that are not finite" in failure.text(folder)


def test_disk_that_refuses_the_batch_is_said_beside_the_reason(
    tmp_path: Path, corpus_folder: Path, broken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failure, "replacing_folder", refuse)
    with pytest.raises(DivergedError, match=r"loss is not finite.*could not be kept: .*No space left"):
        train(tmp_path, corpus_folder, "train.extend.steps=4")


def test_failure_of_a_job_is_found_by_its_name(kept: Path) -> None:
    checkpoints = kept.parent.parent
    assert failure.of_job(checkpoints, "") is None
    path = kept / failure.FAILURE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"job": "abc"}))
    found = failure.of_job(checkpoints, "abc")
    assert found is not None and found.folder == kept
    assert failure.of_job(checkpoints, "other") is None


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_folder_that_is_no_failure_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "failure.json").write_text(content)
    with pytest.raises(FailureError, match=r"failure\.json: "):
        failure.text(tmp_path)


def test_batches_that_cannot_be_shared_out_are_refused(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overtone.training import launch

    with pytest.raises(launch.LaunchError, match=r"train\.extend\.batch: 4 cannot be shared out evenly among 3"):
        launch.check(small(corpus_folder).train, 3)
