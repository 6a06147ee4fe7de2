"""MLflow runs of a search: one for the study, and beneath it one for each trial."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from overtone import settings
from overtone.settings import project
from overtone.tracking import entries, git, journal, naming, store
from overtone.tracking.runs import Model, TrainingRun, ended


class StudyRun:
    """The run of a study; the calls of `overtone tune` that continue it write into the same one.

    Ends FINISHED, FAILED on an error, KILLED on an interruption. Adopts `MLFLOW_RUN_ID` when set, else `known`, else makes
    a run, beneath `OVERTONE_PARENT_RUN_ID` when set.

    Args:
        study: the study's name.
        known: run id of earlier calls; ignored if this store does not have it.
        tags: what the study is, for the run's first lines.
        params: the search as settings, dotted.
    """

    def __init__(self, study: str, known: str | None, tags: Mapping[str, str], params: Mapping[str, Any]) -> None:
        self.run_id = ""
        self._study = study
        self._known = known
        self._tags = tags
        self._params = params

    def __enter__(self) -> Self:
        client = store.client()
        adopted = os.environ.get("MLFLOW_RUN_ID")
        if known := next((one for one in (adopted, self._known) if one and entries.exists(client, one)), None):
            self.run_id = known
            client.update_run(known, status="RUNNING", name=f"tune {self._study}")
        else:
            self.run_id = store.begin_run(client, f"tune {self._study}")
        present = client.get_run(self.run_id).data.params
        entries.log_params(
            client, self.run_id, {key: entries.text(value) for key, value in self._params.items()}, present
        )
        commit = git.commit(project.source() or Path.cwd())
        entries.log_tags(
            client, self.run_id, {naming.KIND: "study", **self._tags, **({"git_commit": commit} if commit else {})}
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        store.client().set_terminated(self.run_id, ended(error))

    def log(self, points: list[tuple[str, float, int]], files: list[Path], tags: Mapping[str, str]) -> None:
        """Add (name, value, trial number) points, files and what the best trial is."""
        client = store.client()
        entries.log_metrics(client, self.run_id, points)
        for path in files:
            client.log_artifact(self.run_id, str(path))
        entries.log_tags(client, self.run_id, tags)


class TrialRun(TrainingRun):
    """A trial's training as a run beneath the study's (`OVERTONE_PARENT_RUN_ID`), named after study and trial."""

    def __init__(self, model: Model, params: settings.Params, study: str, number: int) -> None:
        super().__init__(model, params)
        self._study = study
        self._number = number

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


@contextlib.contextmanager
def beneath(run_id: str) -> Iterator[None]:
    """Runs made within are beneath this one, whatever run this process is set to adopt."""
    before = {name: os.environ.get(name) for name in (store.PARENT, "MLFLOW_RUN_ID")}
    os.environ[store.PARENT] = run_id
    os.environ.pop("MLFLOW_RUN_ID", None)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
