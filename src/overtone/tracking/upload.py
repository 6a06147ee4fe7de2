"""The lines of a journal as they are written into a run; writing one twice changes nothing."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.tracking import entries

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATASET_TRIES = 3

Line = dict[str, Any]


def send(client: MlflowClient, run_id: str, lines: Sequence[Line]) -> None:
    """Write lines into a run, in order.

    Raises:
        MlflowException, OSError: the store does not answer, or refuses.
    """
    for line in _merged(lines):
        _SENDERS[line["kind"]](client, run_id, line)


def _merged(lines: Sequence[Line]) -> Iterator[Line]:
    """The lines with neighbouring points in batches, since single requests are slow."""
    points: list[Any] = []
    for line in lines:
        if line["kind"] == "points":
            points += line["points"]
            continue
        if points:
            yield {"kind": "points", "points": points}
            points = []
        yield line
    if points:
        yield {"kind": "points", "points": points}


def _send_params(client: MlflowClient, run_id: str, line: Line) -> None:
    entries.log_params(client, run_id, line["values"], client.get_run(run_id).data.params)


def _send_tags(client: MlflowClient, run_id: str, line: Line) -> None:
    entries.log_tags(client, run_id, line["values"])


def _send_untag(client: MlflowClient, run_id: str, line: Line) -> None:
    for name in set(line["names"]) & set(client.get_run(run_id).data.tags):
        client.delete_tag(run_id, name)


def _send_points(client: MlflowClient, run_id: str, line: Line) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(name, value, stamp, step) for name, value, stamp, step in line["points"]]
    for start in range(0, len(metrics), entries.METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + entries.METRICS_PER_BATCH])


def _send_files(client: MlflowClient, run_id: str, line: Line) -> None:
    with tempfile.TemporaryDirectory(prefix="overtone-") as name:
        for file, content in line["files"].items():
            (Path(name) / file).write_bytes(base64.b64decode(content))
        client.log_artifacts(run_id, name, line["path"])


def log_dataset(client: MlflowClient, run_id: str, line: Line) -> None:
    """Name what a training reads among the inputs of its run.

    Args:
        line: `name`, `digest` and `tags` of it.
    """
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    meta: Any = MetaDataset  # declared abstract, yet meant to be made
    dataset = meta(CodeDatasetSource(line["tags"]), name=line["name"], digest=line["digest"])
    entry = DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])
    for left in reversed(range(_DATASET_TRIES)):
        try:
            client.log_inputs(run_id, [entry])
        except MlflowException as error:
            # MLflow looks whether an experiment has a dataset and then adds it: trainings that begin together both do.
            if not left or not any(word in str(error).lower() for word in ("unique", "duplicate")):
                raise
        else:
            return


def _send_name(client: MlflowClient, run_id: str, line: Line) -> None:
    client.update_run(run_id, name=line["name"])


def _send_status(client: MlflowClient, run_id: str, line: Line) -> None:
    if line["status"] == "RUNNING":
        client.update_run(run_id, status="RUNNING")
    else:
        client.set_terminated(run_id, line["status"], line["end"])


_SENDERS = {
    "params": _send_params,
    "tags": _send_tags,
    "untag": _send_untag,
    "points": _send_points,
    "files": _send_files,
    "dataset": log_dataset,
    "name": _send_name,
    "status": _send_status,
}
