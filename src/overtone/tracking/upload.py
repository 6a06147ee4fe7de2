"""The lines of a journal as they are written into a run; writing one twice changes nothing."""

from __future__ import annotations

import base64
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.tracking import entries

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATASET_TRIES = 3

Line = dict[str, Any]


def send(client: MlflowClient, run_id: str, lines: Sequence[Line]) -> None:
    """Write lines into a run, in order; neighbouring points in batches, since single requests are slow.

    Raises:
        MlflowException, OSError: the store does not answer, or refuses.
    """
    for are_points, group in itertools.groupby(lines, lambda line: line["kind"] == "points"):
        if are_points:
            entries.log_points(client, run_id, [point for line in group for point in line["points"]])
        else:
            for line in group:
                send_line(client, run_id, line)


def send_line(client: MlflowClient, run_id: str, line: Line) -> None:
    """Write one line that is no points."""
    match line["kind"]:
        case "params":
            entries.log_params(client, run_id, line["values"], client.get_run(run_id).data.params)
        case "tags":
            entries.log_tags(client, run_id, line["values"])
        case "untag":
            for name in set(line["names"]) & set(client.get_run(run_id).data.tags):
                client.delete_tag(run_id, name)
        case "files":
            with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
                for name, content in line["files"].items():
                    (Path(folder) / name).write_bytes(base64.b64decode(content))
                client.log_artifacts(run_id, folder, line["path"])
        case "dataset":
            log_dataset(client, run_id, line)
        case "name":
            client.update_run(run_id, name=line["name"])
        case "status" if line["status"] == "RUNNING":
            client.update_run(run_id, status="RUNNING")
        case "status":
            client.set_terminated(run_id, line["status"], line["end"])


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
            return
        except MlflowException as error:
            # MLflow looks whether an experiment has a dataset and then adds it: trainings that begin together both do.
            if not left or not any(word in str(error).lower() for word in ("unique", "duplicate")):
                raise
