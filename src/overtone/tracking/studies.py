"""MLflow runs of a search: one for the study, and beneath it one for each trial."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone import settings
from overtone.settings import project
from overtone.tracking import entries, git, journal, naming, store
from overtone.tracking.runs import Model, TrainingRun, ended

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class StudyRun:
    """The run of a study; the calls of `overtone tune` that continue it write into the same one."""

    run_id: str

    def log(self, points: list[tuple[str, float, int]], files: list[Path], tags: Mapping[str, str]) -> None:
        """Add (name, value, trial number) points, files and what the best trial is."""
        client = store.client()
        entries.log_metrics(client, self.run_id, points)
        for path in files:
            client.log_artifact(self.run_id, str(path))
        entries.log_tags(client, self.run_id, tags)


@contextlib.contextmanager
def study_run(study: str, known: str | None, tags: Mapping[str, str], params: Mapping[str, Any]) -> Iterator[StudyRun]:
    """The run of a study, which ends FINISHED, FAILED on an error, KILLED on an interruption.

    It is `MLFLOW_RUN_ID` when that is set, else `known`, else a new one, beneath `OVERTONE_PARENT_RUN_ID` when set.

    Args:
        study: the study's name.
        known: run id of earlier calls; ignored if this store does not have it.
        tags: what the study is.
        params: the search as settings, dotted.
    """
    client = store.client()
    candidates = [one for one in (os.environ.get("MLFLOW_RUN_ID"), known) if one and entries.exists(client, one)]
    run_id = candidates[0] if candidates else store.begin_run(client, f"tune {study}")
    client.update_run(run_id, status="RUNNING", name=f"tune {study}")
    present = client.get_run(run_id).data.params
    entries.log_params(client, run_id, {key: entries.text(value) for key, value in params.items()}, present)
    commit = git.commit(project.source() or Path.cwd())
    entries.log_tags(client, run_id, {naming.KIND: "study", **tags, **({"git_commit": commit} if commit else {})})
    error: BaseException | None = None
    try:
        yield StudyRun(run_id)
    except BaseException as raised:
        error = raised
        raise
    finally:
        client.set_terminated(run_id, ended(error))


class TrialRun(TrainingRun):
    """A trial's training as a run beneath the study's, named after study and trial."""

    def __init__(self, model: Model, params: settings.Params, study: str, number: int, parent: str) -> None:
        super().__init__(model, params)
        self._study = study
        self._number = number
        self._parent = parent

    def _obtain(self, client: MlflowClient) -> str:
        return store.begin_run(client, self._name(), parent=self._parent)

    def _name(self) -> str:
        return f"{self._study} trial {self._number}"

    def _tags(self) -> dict[str, str]:
        facts = {
            naming.KIND: "trial",
            "tune.study": self._study,
            "tune.trial": str(self._number),
            "tune.state": "running",
        }
        return super()._tags() | facts | {"mlflow.source.name": f"overtone tune --model {self.model}"}

    def conclude(self, state: str, values: Mapping[str, float]) -> None:
        """What the trial came to: complete, pruned or failed, and its objectives as far as it got."""
        if self._book:
            stamp = journal.now()
            self._book.append("points", points=[(f"tune/{name}", value, stamp, 0) for name, value in values.items()])
            self._book.append("tags", values={"tune.state": state})
            self._book.try_to_send()


def close_trial(run_id: str) -> None:
    """End the run of a trial whose worker was killed, where this store has it."""
    client = store.client()
    if entries.exists(client, run_id):
        entries.log_tags(client, run_id, {"tune.state": "killed"})
        client.set_terminated(run_id, "KILLED")
