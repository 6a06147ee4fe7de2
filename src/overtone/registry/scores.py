"""What a version scored: read from a report, kept with its run, and how much better one is than another.

All that the registry knows of the form of reports is here: `metrics.json` (group -> kind -> metric -> mean, `test_set`) and
`scores.csv`, a row for each clip under each condition.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import overtone
from overtone.errors import OvertoneError
from overtone.evaluation import statistics
from overtone.evaluation.report import read_metrics, read_rows
from overtone.evaluation.statistics import Row
from overtone.registry.versions import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# Tag of a version: which of the kept scores are the last.
KEY = "scores_key"
_DIGEST = "scores_sha256"
# How tags of a version begin that hold the gate's metrics.
_TAG = "score."
# The code that a clip's scores come from.
_CODE = ("alignment", "judge", "metrics", "perceptual", "statistics", "texture")


class ChangedScoresError(RegistryError):
    """Scores of a version that are not those that were registered."""


@dataclass(frozen=True)
class Gain:
    """How much better the second of two systems is on one metric.

    `mean` is positive where the second is better, `lower` the lower end of its 95 % interval over sources, minus infinity
    where one source alone has the metric.
    """

    mean: float
    lower: float
    sources: int


@dataclass(frozen=True)
class Scored:
    """What a system scored: the tree of a report's `metrics.json`, the text of its `scores.csv`, and by which code.

    `code` is the digest of the metrics' code and of the settings of the evaluation: scores by other code do not compare.
    """

    metrics: Mapping[str, Any]
    table: str = ""
    code: str = ""

    @cached_property
    def rows(self) -> list[Row]:
        return read_rows(self.table) if self.table else []

    @property
    def test_set(self) -> str:
        return str(self.metrics.get("test_set") or "")

    @property
    def key(self) -> str:
        """Names test set, metrics' code and settings: scores compare where it is the same."""
        return hashlib.sha256(json.dumps([self.test_set, self.code]).encode()).hexdigest()[:16]

    @property
    def digest(self) -> str:
        """SHA-256 over means and table."""
        return hashlib.sha256(f"{_text(self.metrics)}\n{self.table}".encode()).hexdigest()

    def value(self, path: str) -> float | None:
        """The mean at a dotted path (group.kind.metric); None where there is none or it is not finite."""
        node: Any = self.metrics
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, bool) or not isinstance(node, int | float) or not math.isfinite(node):
            return None
        return float(node)

    def __getitem__(self, path: str) -> float:
        """The same of a metric that is known to be there."""
        found = self.value(path)
        assert found is not None, path
        return found


def read(folder: Path, settings: Mapping[str, Any]) -> Scored:
    """A report's scores.

    Args:
        folder: of the report.
        settings: of the evaluation.

    Raises:
        OvertoneError: `metrics.json` or `scores.csv` is missing or damaged.
    """
    table = folder / "scores.csv"
    tree = read_metrics(folder)
    if not table.is_file():
        raise OvertoneError(f"{table}: no such file; expected the output of the stage evaluate (dvc repro)")
    # Read as bytes: a universal newline would change the digest.
    return Scored(tree, table.read_bytes().decode(), code_digest(settings))


def code_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 over the metrics' code and the settings of the evaluation."""
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True, default=str).encode())
    for name in _CODE:
        digest.update((Path(overtone.__path__[0]) / "evaluation" / f"{name}.py").read_bytes())
    return digest.hexdigest()


def gain(before: Scored, after: Scored, path: str, better: Literal["lower", "higher"]) -> Gain | None:
    """How much better the second is on a metric, paired by source on the clips and conditions that both have.

    Args:
        path: dotted path of the metric: group.kind.metric.

    Returns:
        None where the two have nothing in common.

    Source:
        Student's t interval of a mean over sources, see `evaluation.statistics`.
    """
    if path.count(".") != 2:
        return None
    group, kind, metric = path.split(".")
    first, second = (statistics.of_group(one.rows, group) for one in (before, after))
    found = statistics.difference(first, second, kind, metric)
    if found is None:
        return None
    mean = found.mean if better == "higher" else -found.mean
    return Gain(mean, -math.inf if found.half is None else mean - found.half, found.sources)


def _text(metrics: Mapping[str, Any]) -> str:
    return json.dumps(metrics, indent=2, sort_keys=True)


# --- kept with a version ------------------------------------------------------------------------------------------------


def tags(found: Mapping[str, float]) -> dict[str, str]:
    """The gate's metrics of a version, as its tags."""
    return {f"{_TAG}{metric}": repr(number) for metric, number in found.items()}


def tagged(version: ModelVersion) -> dict[str, float]:
    """The gate's metrics of a version, from its tags."""
    return {name.removeprefix(_TAG): float(text) for name, text in version.tags.items() if name.startswith(_TAG)}


def folder(version: ModelVersion, key: str) -> str:
    """Where among its run's artifacts a version's scores are."""
    return f"registered/version-{version.version}/{key}"


def is_kept(version: ModelVersion, scored: Scored) -> bool:
    """Whether these very scores are kept with a version."""
    return bool(version.tags.get(f"{_DIGEST}.{scored.key}") == scored.digest)


def keep(client: MlflowClient, version: ModelVersion, scored: Scored) -> None:
    """Keep scores among the artifacts of the version's run, and their digest on the version."""
    if not is_kept(version, scored):
        place, run_id = folder(version, scored.key), str(version.run_id)
        client.log_text(run_id, _text(scored.metrics), f"{place}/metrics.json")
        client.log_text(run_id, scored.table, f"{place}/scores.csv")
        client.set_model_version_tag(version.name, version.version, f"{_DIGEST}.{scored.key}", scored.digest)
    client.set_model_version_tag(version.name, version.version, KEY, scored.key)


def kept(client: MlflowClient, version: ModelVersion, key: str, code: str = "") -> Scored | None:
    """A version's scores under a key; None where none were kept.

    Args:
        code: of the key.

    Raises:
        ChangedScoresError: they are not those that were kept.
        RegistryError: they cannot be fetched.
    """
    from mlflow.exceptions import MlflowException

    digest = version.tags.get(f"{_DIGEST}.{key}")
    if digest is None:
        return None
    where = f"{version.name} version {version.version}: {folder(version, key)}"
    try:
        with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
            found = Path(client.download_artifacts(str(version.run_id), folder(version, key), temporary))
            metrics = json.loads((found / "metrics.json").read_text())
            scored = Scored(metrics, (found / "scores.csv").read_bytes().decode(), code)
    except (MlflowException, OSError, ValueError) as error:
        raise RegistryError(f"{where} cannot be fetched: {error}") from None
    if scored.digest != digest:
        raise ChangedScoresError(f"{where} holds other scores than were registered")
    return scored
