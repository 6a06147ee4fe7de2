"""What is written into a run: settings, tags and points of curves, under names and in batches that MLflow takes."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What MLflow takes in one request.
METRICS_PER_BATCH = 1000
_ENTRIES_PER_BATCH = 100
_DATASET_TRIES = 3
_UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

# Name, value, Unix time in milliseconds, step.
Point = tuple[str, float, int, int]
_Item = TypeVar("_Item")


def batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """The items, at most so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def legal(name: str) -> str:
    """A name that MLflow takes: letters, digits and `_-. /`; anything else becomes `_`."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


def text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def exists(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code in _UNKNOWN:
            return False
        raise


def log_params(client: MlflowClient, run_id: str, wanted: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Log what is new; MLflow refuses changed values, so those of a continued run become tags `changed.<name>`."""
    from mlflow.entities import Param

    new = [Param(key, value) for key, value in wanted.items() if key not in present]
    for batch in batches(new, _ENTRIES_PER_BATCH):
        client.log_batch(run_id, params=batch)
    changed = {f"changed.{key}": value for key, value in wanted.items() if present.get(key, value) != value}
    log_tags(client, run_id, changed)


def log_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    for batch in batches([RunTag(key, value) for key, value in tags.items()], _ENTRIES_PER_BATCH):
        client.log_batch(run_id, tags=batch)


def log_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    """Log points of curves, whole batches at a time: single requests are slow."""
    from mlflow.entities import Metric

    for batch in batches(points, METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=[Metric(*point) for point in batch])


def log_metrics(client: MlflowClient, run_id: str, points: Sequence[tuple[str, float, int]]) -> None:
    """Log (name, value, step) points as of now; those that are not finite are left out."""
    now = time.time_ns() // 1_000_000
    log_points(
        client, run_id, [(legal(name), value, now, step) for name, value, step in points if math.isfinite(value)]
    )


def log_dataset(client: MlflowClient, run_id: str, named: Mapping[str, Any]) -> None:
    """Name what a training reads among the inputs of its run.

    Args:
        named: `name`, `digest` and `tags` of it.
    """
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    meta: Any = MetaDataset  # declared abstract, yet meant to be made
    dataset = meta(CodeDatasetSource(named["tags"]), name=named["name"], digest=named["digest"])
    entry = DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])
    for left in reversed(range(_DATASET_TRIES)):
        try:
            client.log_inputs(run_id, [entry])
            return
        except MlflowException as error:
            # MLflow looks whether an experiment has a dataset and then adds it: trainings that begin together both do.
            if not left or not any(word in str(error).lower() for word in ("unique", "duplicate")):
                raise


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a tree with their dotted names, in order."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)
