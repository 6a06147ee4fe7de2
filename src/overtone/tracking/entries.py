"""What is written into a run: settings, tags and points of curves, under names and in batches that MLflow takes."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

METRICS_PER_BATCH = 1000
_ENTRIES_PER_BATCH = 100
_UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


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
    for start in range(0, len(new), _ENTRIES_PER_BATCH):
        client.log_batch(run_id, params=new[start : start + _ENTRIES_PER_BATCH])
    changed = {f"changed.{key}": value for key, value in wanted.items() if present.get(key, value) != value}
    log_tags(client, run_id, changed)


def log_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    entries = [RunTag(key, value) for key, value in tags.items()]
    for start in range(0, len(entries), _ENTRIES_PER_BATCH):
        client.log_batch(run_id, tags=entries[start : start + _ENTRIES_PER_BATCH])


def log_metrics(client: MlflowClient, run_id: str, points: list[tuple[str, float, int]]) -> None:
    """Log (name, value, step) points, whole batches at a time: single calls are slow."""
    from mlflow.entities import Metric

    now = time.time_ns() // 1_000_000
    metrics = [Metric(legal(name), value, now, step) for name, value, step in points if math.isfinite(value)]
    for start in range(0, len(metrics), METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a tree with their dotted names, in order."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)


def texts(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from texts(value, f"{prefix}{key}.")
        else:
            yield legal(f"{prefix}{key}"), text(value)
