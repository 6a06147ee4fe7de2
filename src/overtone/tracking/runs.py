"""One MLflow run for one training, and the scores that its evaluation adds to it."""

from __future__ import annotations

import csv
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from overtone import params as settings
from overtone.audio import replacing
from overtone.tracking import entries, naming, source, store
from overtone.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from pytorch_lightning.loggers import MLFlowLogger

Model = Literal["cnn", "rnn"]
# Of a run that failed.
REASON = "overtone.failure"
BATCH = "overtone.failure_batch"
_TAG_LENGTH = 1000
RESTORED = "overtone.restored"
RESTORED_FROM = "overtone.restored_from"
SAMPLE_SECONDS = 10
_DIGEST_LENGTH = 36
_GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")


def trained_with(params: settings.Params, model: Model) -> dict[str, str]:
    """The settings that this training depends on, flattened to text."""
    flat = settings.flatten(params)
    return {
        entries.legal(key): entries.text(value) for key, value in flat.items() if not key.startswith(foreign(model))
    }


def foreign(model: str) -> tuple[str, ...]:
    """How keys of settings begin that a model's training does not depend on: the other network's and those of later stages."""
    return (f"train.{'cnn' if model == 'rnn' else 'rnn'}.", "evaluate.", "register.", "tune.")


@dataclass(frozen=True)
class Streamed:
    """Shards that a training reads: where they are, and the SHA-256 of their index."""

    url: str
    digest: str


class TrainingRun:
    """One execution of a training stage as one MLflow run.

    Adopts `MLFLOW_RUN_ID` when set (`mlflow run` sets it), else `resume`, else makes a run, beneath
    `OVERTONE_PARENT_RUN_ID` when set. Ends FINISHED, FAILED on an error, KILLED on an interruption. In a job of several
    processes only the first one records; in the others `run_id` is empty and `logger()` is False.

    Args:
        model: which network is trained.
        params: all settings.
        resume: run id of an interrupted training that is continued; ignored if this store does not have it.
        shards: what is read in place of the pairs that the project has made.

    Raises:
        TrackingError: `MLFLOW_RUN_ID` or the parent is unknown to the store, or the experiment was deleted.
    """

    def __init__(
        self, model: Model, params: settings.Params, resume: str | None = None, shards: Streamed | None = None
    ) -> None:
        self.run_id = ""
        self.model = model
        self._params = params
        self._resume = resume
        self._shards = shards
        self._digest = store.data_digest(params.corpus.path)
        self._experiment = ""
        self._monitor: Any = None  # MLflow's SystemMetricsMonitor, which has no types

    def __enter__(self) -> Self:
        if os.environ.get("RANK", "0") != "0":
            return self
        client = store.client()
        self.run_id, created = self._obtain(client)
        run = client.get_run(self.run_id)
        self._experiment = client.get_experiment(run.info.experiment_id).name
        if not created:
            client.update_run(self.run_id, status="RUNNING")
            for name in {REASON, BATCH} & set(run.data.tags):
                client.delete_tag(self.run_id, name)
            if _GENERATED_NAME.fullmatch(run.info.run_name or ""):
                client.update_run(self.run_id, name=self._name())
        entries.log_params(client, self.run_id, trained_with(self._params, self.model), run.data.params)
        entries.log_tags(client, self.run_id, self._tags())
        self._log_source(client)
        self._log_dataset(client)
        self._watch_system(resumed=not created)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.run_id:
            return
        if self._monitor is not None:
            self._monitor.finish()
        client = store.client()
        if isinstance(error, Exception):
            entries.log_tags(client, self.run_id, _why(error))
        client.set_terminated(self.run_id, ended(error))

    def logger(self) -> MLFlowLogger | Literal[False]:
        """Lightning's logger, writing to this run; False, Lightning's word for none, in processes that do not record."""
        return logger_of(self.run_id) if self.run_id else False

    def summary(self) -> dict[str, Any]:
        """What `run.json` says of this run; the trainer adds the best epoch and the step count."""
        return {
            "run_id": self.run_id,
            "experiment": self._experiment,
            "tracking_uri": store.public_uri(),
            "commit": store.git_commit(),
            "data_digest": self._digest,
            "model": self.model,
            **({"shards": self._shards.url, "shards_digest": self._shards.digest} if self._shards else {}),
        }

    def _obtain(self, client: MlflowClient) -> tuple[str, bool]:
        """The run's id, and whether it was made just now."""
        adopted = os.environ.get("MLFLOW_RUN_ID")
        if adopted:
            if not entries.exists(client, adopted):
                raise TrackingError(f"MLFLOW_RUN_ID: {store.public_uri()} has no run {adopted!r}")
            return adopted, False
        if self._resume and entries.exists(client, self._resume):
            return self._resume, False
        parent = os.environ.get("OVERTONE_PARENT_RUN_ID")
        tags = {"mlflow.parentRunId": parent} if parent else {}
        run = client.create_run(store.experiment_id(client, parent), run_name=self._name(), tags=tags)
        return str(run.info.run_id), True

    def _name(self) -> str:
        return naming.run_name(self.model, self._params, foreign(self.model))

    def _tags(self) -> dict[str, str]:
        commit = store.git_commit()
        facts = {
            "model": self.model,
            naming.SYSTEM: self.model,
            naming.KIND: "training",
            "git_commit": commit,
            "git_dirty": str(store.git_dirty()).lower() if commit else None,
            "data_digest": self._digest,
            "shards": self._shards.url if self._shards else None,
            "shards_digest": self._shards.digest if self._shards else None,
            "dvc_stage": os.environ.get("DVC_STAGE"),
            "dvc_exp_name": os.environ.get("DVC_EXP_NAME"),
            "dvc_exp_baseline_rev": os.environ.get("DVC_EXP_BASELINE_REV"),
            "mlflow.source.name": f"overtone stage train --model {self.model}",
            "mlflow.source.git.commit": commit,
        }
        return {name: value for name, value in facts.items() if value}

    def _log_source(self, client: MlflowClient) -> None:
        """Keep what leads back to the source when the repository has moved on, under `source`."""
        files, left_out = source.files_now(self._params.corpus.path)
        entries.log_tags(client, self.run_id, source.facts_now(files, left_out))
        with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            if files:
                client.log_artifacts(self.run_id, folder, "source")

    def _log_dataset(self, client: MlflowClient) -> None:
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        if self._shards:
            name, digest = self._shards.url.rstrip("/").rpartition("/")[2], self._shards.digest
            tags = {"shards": self._shards.url, "sha256": digest}
        else:
            name, digest = self._params.corpus.path.name or "corpus", self._digest or ""
            tags = {"dvc": f"{name}.dvc", "md5": digest} if digest else {"folder": name}
        meta: Any = MetaDataset  # declared abstract, yet meant to be made
        dataset = meta(CodeDatasetSource(tags), name=name, digest=digest[:_DIGEST_LENGTH] or None)
        context = [InputTag("mlflow.data.context", "training")]
        client.log_inputs(self.run_id, [DatasetInput(dataset._to_mlflow_entity(), context)])

    def _watch_system(self, resumed: bool) -> None:
        if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in ("false", "0"):
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor: Any = SystemMetricsMonitor
        self._monitor = monitor(self.run_id, SAMPLE_SECONDS, resume_logging=resumed, tracking_uri=store.tracking_uri())
        self._monitor.start()


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


def logger_of(run_id: str) -> MLFlowLogger:
    """Lightning's logger, writing to a run."""
    from pytorch_lightning.loggers import MLFlowLogger

    client = store.client()
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id).name
    return MLFlowLogger(experiment_name=experiment, tracking_uri=store.tracking_uri(), run_id=run_id, log_model=False)


def end(run_id: str) -> None:
    """Mark a run as failed if it still counts as running: the process that recorded it was killed."""
    client = store.client()
    if entries.exists(client, run_id) and client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FAILED")


# --- evaluation -------------------------------------------------------------------------------------------------------


def log_evaluation(folder: Path, metrics: Mapping[str, Any], report: Path) -> str:
    """Add an evaluation to the run that trained the model.

    Args:
        folder: the model folder; its `run.json` names the run.
        metrics: the tree of `metrics.json`: group -> kind -> metric -> mean; entries that are not numbers are left out.
        report: the report folder (scores, `figures/`, `audio/`), kept as the run's artifacts under `evaluation`; its
            `summary.json` gets the id that `run.json` names, which `dvc exp show` has as a column then.

    Returns:
        The id of the run in use: that of `run.json`, or of its copy if this store never had it (see `open_run`).

    Raises:
        TrackingError: the model folder lacks a usable `run.json`, or the store lacks the experiment.
    """
    client = store.client()
    run_id = open_run(folder)
    _sign(report / "summary.json", read_run(folder)["run_id"])
    entries.log_metrics(client, run_id, [(f"test/{name}", value, 0) for name, value in entries.leaves(metrics)])
    if test_set := metrics.get("test_set"):
        client.set_tag(run_id, "test_set", str(test_set))
    client.log_artifacts(run_id, str(report), "evaluation")
    return run_id


def _sign(summary: Path, run_id: str) -> None:
    if not summary.is_file():
        return
    tree = json.loads(summary.read_text()) | {"run": run_id}
    with replacing(summary) as temporary:
        temporary.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n")


def read_run(folder: Path) -> dict[str, Any]:
    """A model folder's `run.json`.

    Raises:
        TrackingError: it is missing, or is not an object with a `run_id`.
    """
    path = folder / "run.json"
    try:
        info = json.loads(path.read_text())
    except FileNotFoundError:
        raise TrackingError(f"{path}: no such file; expected the model folder of a finished training") from None
    except ValueError as error:
        raise TrackingError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(info, dict) or not isinstance(info.get("run_id"), str) or not info["run_id"]:
        raise TrackingError(f"{path}: expected an object with a run_id")
    return info


def open_run(folder: Path) -> str:
    """The run of a model folder in this store.

    A pulled model may name a run of another machine's store; such a run is made again once, from the folder's files
    (settings, training curve), tagged `overtone.restored` and `overtone.restored_from`.

    Returns:
        The run's id in this store.
    """
    info = read_run(folder)
    client = store.client()
    if entries.exists(client, info["run_id"]):
        return str(info["run_id"])
    with store.lock("restore"):
        experiment = store.experiment_id(client)
        found = client.search_runs(
            [experiment], f"tags.`{RESTORED_FROM}` = '{entries.legal(info['run_id'])}'", max_results=1
        )
        return str(found[0].info.run_id) if found else _restore(client, experiment, folder, info)


def _restore(client: MlflowClient, experiment: str, folder: Path, info: Mapping[str, Any]) -> str:
    tags = {RESTORED: "true", RESTORED_FROM: entries.legal(info["run_id"]), "model": info.get("model")}
    tags |= {naming.SYSTEM: info.get("model"), naming.KIND: "training"}
    tags |= {"git_commit": info.get("commit"), "data_digest": info.get("data_digest")}
    run = client.create_run(
        experiment,
        run_name=f"{info.get('model', 'model')} restored",
        tags={key: str(value) for key, value in tags.items() if value},
    )
    run_id = str(run.info.run_id)
    config = folder / "config.json"
    if config.is_file():
        entries.log_params(client, run_id, dict(entries.texts(json.loads(config.read_text()))), {})
    entries.log_metrics(client, run_id, list(_curve(folder / "history.csv")))
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _curve(history: Path) -> Iterator[tuple[str, float, int]]:
    """The points of a training's `history.csv`: every numeric column over its `step` (else `epoch`, else the row)."""
    if not history.is_file():
        return
    with history.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            step = int(float(row.get("step") or row.get("epoch") or number))
            for name, text in row.items():
                if name == "step" or not text:
                    continue
                try:
                    yield name, float(text), step
                except ValueError:
                    continue
