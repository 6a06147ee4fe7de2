"""One MLflow run for one training."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from overtone import settings
from overtone.tracking import entries, journal, naming, provenance, store, transfer
from overtone.tracking.journal import REASON, Journal
from overtone.tracking.provenance import Provenance, Shards
from overtone.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from pytorch_lightning.loggers import Logger

Model = str
# Of a run whose training diverged: where the batch is.
BATCH = "overtone.failure_batch"
_TAG_LENGTH = 1000
_GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")
# How long a command that looks whether the run's process lives may hold its journal.
_GLANCE_SECONDS = 10.0


def trained_with(params: settings.Params, model: Model) -> dict[str, str]:
    """The settings that this training depends on, flattened to text."""
    flat = settings.flatten(params)
    return {
        entries.legal(key): entries.text(value) for key, value in flat.items() if not key.startswith(foreign(model))
    }


def foreign(model: str) -> tuple[str, ...]:
    """How keys of settings begin that a model's training does not depend on: other families' and those of later stages."""
    others = (f"train.{family}." for family in settings.FAMILIES if family != model)
    return (*others, "degrade.", "evaluate.", "register.", "tune.")


class TrainingRun:
    """One execution of a training stage as one MLflow run.

    Adopts `MLFLOW_RUN_ID` when set (`mlflow run` sets it), else `resume`, else makes a run, beneath
    `OVERTONE_PARENT_RUN_ID` when set. Ends FINISHED, FAILED on an error, KILLED on an interruption. In a job of several
    processes only the first one records; in the others `run_id` is empty and `logger()` is False.

    All of it goes through a journal (`tracking.journal`): the store must be there at the beginning, and may be away
    afterwards.

    Args:
        model: which network is trained.
        params: all settings.
        resume: run id of an interrupted training that is continued; ignored if this store does not have it.
        shards: what is read in place of the corpus that the project has made.

    Where the training comes from (`tracking.provenance`) is taken when the run is entered, before the first batch.

    Raises:
        TrackingError: the store does not answer, `MLFLOW_RUN_ID` or the parent is unknown to it, or the experiment was
            deleted.
    """

    def __init__(
        self, model: Model, params: settings.Params, resume: str | None = None, shards: Shards | None = None
    ) -> None:
        self.run_id = ""
        self.model = model
        self._params = params
        self._resume = resume
        self._shards = shards
        self._provenance: Provenance | None = None
        self._book: Journal | None = None

    def __enter__(self) -> Self:
        if os.environ.get("RANK", "0") != "0":
            return self
        self._provenance = provenance.take(self._params, self._shards)
        client = store.client()
        run = client.get_run(self._obtain(client))
        self._book = Journal(run.info.run_id, {"store": store.public_uri()}, _GLANCE_SECONDS)
        try:
            self._introduce(client, run, self._provenance)
        except BaseException:
            self._book.close()
            raise
        self.run_id = self._book.run_id
        return self

    def _introduce(self, client: MlflowClient, run: Run, source: Provenance) -> None:
        """Write down what the run is, before anything is trained."""
        run_id, renamed = run.info.run_id, _GENERATED_NAME.fullmatch(run.info.run_name or "")
        client.update_run(run_id, status="RUNNING", name=self._name() if renamed else None)
        for name in {REASON, BATCH} & set(run.data.tags):
            client.delete_tag(run_id, name)
        entries.log_params(client, run_id, trained_with(self._params, self.model), run.data.params)
        entries.log_tags(client, run_id, self._tags() | source.tags())
        # What leads back to the source when the repository has moved on.
        with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
            for name, content in source.files.items():
                (Path(folder) / name).write_bytes(content)
            client.log_artifacts(run_id, folder, "source")
        entries.log_dataset(client, run_id, transfer.dataset(source.facts(), self._params.corpus.path.name))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._book is None:
            return
        with self._book as book:
            if isinstance(error, Exception):
                book.append("tags", values=_why(error))
            book.append("status", status=ended(error), end=journal.now())
            if not book.try_to_send(journal.PATIENCE_SECONDS):
                print(
                    f"run {self.run_id} is kept in {book.path}; `overtone sync` uploads it ({book.trouble})", flush=True
                )

    def logger(self) -> Logger | Literal[False]:
        """Lightning's logger, writing to this run; False, Lightning's word for none, in processes that do not record."""
        if self._book is None:
            return False
        from overtone.tracking.recording import JournalLogger

        return JournalLogger(self._book)

    def summary(self) -> dict[str, Any]:
        """What `run.json` says of this run: where it is, and where its training comes from."""
        facts = self._source().facts()
        unrelated = foreign(self.model)
        known = {key: value for key, value in facts["settings"].items() if not key.startswith(unrelated)}
        return {
            "run_id": self.run_id,
            "tracking_uri": store.public_uri(),
            "model": self.model,
            **facts,
            "settings": known,
        }

    def _source(self) -> Provenance:
        assert self._provenance is not None, "the run was not entered, or records in another process"
        return self._provenance

    def _obtain(self, client: MlflowClient) -> str:
        """The id of the run: adopted, continued or new."""
        if adopted := os.environ.get("MLFLOW_RUN_ID"):
            if not entries.exists(client, adopted):
                raise TrackingError(f"MLFLOW_RUN_ID: {store.public_uri()} has no run {adopted!r}")
            return adopted
        known = self._continued(client, self._resume) if self._resume else None
        return known or store.begin_run(client, self._name())

    def _continued(self, client: MlflowClient, resume: str) -> str | None:
        """The run of an interrupted training in this store, whole as far as it was recorded here."""
        if resume in journal.kept():
            journal.sync(resume)
        return transfer.find(client, resume)

    def _name(self) -> str:
        return naming.run_name(self.model, self._params, foreign(self.model))

    def _tags(self) -> dict[str, str]:
        found = naming.tags(self.model, "training", f"overtone stage train --model {self.model}", self._source().commit)
        baseline = os.environ.get("DVC_EXP_BASELINE_REV")
        return found | {"model": self.model} | ({"dvc_exp_baseline_rev": baseline} if baseline else {})


def ended(error: BaseException | None) -> str:
    """How a run ends: Lightning turns Ctrl-C and SIGTERM into SystemExit, so any exit with a code is an interruption."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "FINISHED"
    return "FAILED" if isinstance(error, Exception) else "KILLED"


def _why(error: Exception) -> dict[str, str]:
    """Tags of a run that failed: the reason, and where the batch is kept if its training diverged (`DivergedError`)."""
    tags = {REASON: str(getattr(error, "reason", error))[:_TAG_LENGTH] or type(error).__name__}
    folder = getattr(error, "folder", None)
    return tags | ({BATCH: str(folder)} if folder else {})


def end(run_id: str) -> None:
    """Mark a run as failed if it still counts as running: the process that recorded it was killed."""
    if run_id in journal.kept():
        with Journal(run_id) as held:
            if not held.has_ended:
                held.append("status", status="FAILED", end=journal.now())
            held.try_to_send()
        return
    client = store.client()
    if entries.exists(client, run_id) and client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FAILED")
