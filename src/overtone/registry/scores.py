"""What a version scored on a test set, kept with its run: the metrics and the scores by clip that the gate goes by."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.registry import statistics, versions
from overtone.registry.statistics import Row
from overtone.registry.versions import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_TAG = "scores_sha256"


@dataclass(frozen=True)
class Scored:
    """The tree of a report's `metrics.json`, and the text of its `scores.csv`."""

    metrics: Mapping[str, Any]
    table: str = ""

    @cached_property
    def rows(self) -> list[Row]:
        return statistics.read(self.table) if self.table else []

    @property
    def test_set(self) -> str:
        return str(self.metrics.get("test_set") or "")

    @property
    def digest(self) -> str:
        """SHA-256 over both."""
        return hashlib.sha256(f"{_text(self.metrics)}\n{self.table}".encode()).hexdigest()


def _text(metrics: Mapping[str, Any]) -> str:
    return json.dumps(metrics, indent=2, sort_keys=True)


def _short(test_set: str) -> str:
    return test_set[:16] or "unnamed"


def folder(version: ModelVersion, test_set: str) -> str:
    """Where among the run's artifacts a version's scores on a test set are."""
    return f"registered/version-{version.version}/{_short(test_set)}"


def keep(client: MlflowClient, version: ModelVersion, scored: Scored) -> None:
    """Keep scores among the artifacts of the version's run, and their digest on the version."""
    tag = f"{_TAG}.{_short(scored.test_set)}"
    if version.tags.get(tag) == scored.digest:
        return
    place = folder(version, scored.test_set)
    client.log_text(versions.run_of(version), _text(scored.metrics), f"{place}/metrics.json")
    client.log_text(versions.run_of(version), scored.table, f"{place}/scores.csv")
    client.set_model_version_tag(version.name, version.version, tag, scored.digest)


def kept(client: MlflowClient, version: ModelVersion, test_set: str) -> Scored | None:
    """A version's scores on a test set; None where none were kept.

    Raises:
        RegistryError: they cannot be fetched, or are not those that were kept.
    """
    from mlflow.exceptions import MlflowException

    digest = version.tags.get(f"{_TAG}.{_short(test_set)}")
    if digest is None:
        return None
    where = folder(version, test_set)
    try:
        with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
            found = Path(client.download_artifacts(versions.run_of(version), where, temporary))
            metrics = json.loads((found / "metrics.json").read_text())
            # Read as bytes: a universal newline would change the digest.
            scored = Scored(metrics, (found / "scores.csv").read_bytes().decode())
    except (MlflowException, OSError, ValueError) as error:
        raise RegistryError(f"{version.name} version {version.version}: {where} cannot be fetched: {error}") from None
    if scored.digest != digest:
        raise RegistryError(
            f"{version.name} version {version.version}: {where} holds other scores than were registered"
        )
    return scored
