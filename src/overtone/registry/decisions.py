"""Decisions about the champion: their figures as tags of the version, and as a file among the artifacts of its run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from overtone.registry import versions
from overtone.registry.gate import Comparison
from overtone.settings import project
from overtone.tracking import git, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

WITHDRAWN = "withdrawn"
COUNT = "decisions"

Action = Literal["register", "promote", "rollback"]


@dataclass(frozen=True)
class Decision:
    """What happened to a version and why.

    `created`: it is new in the registry. `judged`: the gate looked at it now, not on an earlier call. `champion` and
    `previous` are the champion's version after and before; `comparisons` the figures, main metric first. `record` is the
    decision as it was written down, empty where there was nothing to decide.
    """

    name: str
    version: int
    model: str
    score: float | None
    created: bool
    judged: bool
    promoted: bool
    champion: int | None
    previous: int | None
    comparisons: tuple[Comparison, ...]
    reason: str
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether there is another champion now."""
        return self.champion != self.previous


def scores(version: ModelVersion) -> dict[str, float]:
    """The gate's metrics of a version, from its tags."""
    marked = {name.removeprefix("score."): text for name, text in version.tags.items() if name.startswith("score.")}
    return {metric: float(text) for metric, text in marked.items()}


def write(
    client: MlflowClient,
    registered: RegisteredModel,
    version: ModelVersion,
    action: Action,
    promoted: bool,
    reason: str,
    comparisons: Sequence[Comparison] = (),
    **facts: Any,
) -> dict[str, Any]:
    """Write a decision down, numbered within the registered model: the file first, then the tags.

    Args:
        client: of the store.
        registered: the model as it was before the decision.
        version: what was decided about.
        action: what asked for the decision.
        promoted: whether the version became champion.
        reason: in a sentence.
        comparisons: the gate's figures.
        facts: what else the file shall hold.

    Returns:
        What the file holds.
    """
    from mlflow.exceptions import MlflowException

    time = datetime.now(UTC)
    champion = versions.champion(registered)
    before = None if champion is None else client.get_model_version(registered.name, str(champion))
    record = {
        "number": int(registered.tags.get(COUNT, "0")) + 1,
        "time": time.isoformat(),
        "action": action,
        "promoted": promoted,
        "reason": reason,
        "champion": int(version.version) if promoted else champion,
        "previous": champion,
        "previous_scores": scores(before) if before else {},
        "comparisons": [_plain(one) for one in comparisons],
        **_about(version),
        **facts,
    }
    client.set_registered_model_tag(registered.name, COUNT, str(record["number"]))
    path = f"decisions/{time:%Y%m%dT%H%M%S.%fZ}-{version.version}.json"
    tags = tags_of(promoted, reason, comparisons, champion) | {"decision_number": str(record["number"])}
    try:
        client.log_text(versions.run_of(version), json.dumps(record, indent=2, sort_keys=True) + "\n", path)
        tags["decision_artifact"] = path
    except (MlflowException, OSError) as error:
        # A version may outlive its run; that must not keep anyone from going back to it.
        tags["decision_artifact"] = f"not written: {error}"[:500]
    versions.write(client, registered.name, int(version.version), tags)
    return record


def _about(version: ModelVersion) -> dict[str, Any]:
    """What a decision is about, and who asks for it."""
    root = project.source() or Path.cwd()
    return {
        "name": version.name,
        "version": int(version.version),
        "model": version.tags.get("model", ""),
        "run_id": version.run_id,
        "weights_sha256": version.tags.get("weights_sha256", ""),
        "scores": scores(version),
        "by": {
            "user": store.user(),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "commit": git.commit(root),
            "dirty": git.dirty(root),
        },
    }


def _plain(comparison: Comparison) -> dict[str, Any]:
    return asdict(comparison) | {"passed": comparison.passed}


def tags_of(promoted: bool, reason: str, comparisons: Sequence[Comparison], champion: int | None) -> dict[str, str]:
    """A decision as tags: the sentence, and each comparison with its figures."""
    tags = {"decision": f"{'promoted' if promoted else 'not promoted'}: {reason}", "decided": versions.now()}
    if champion is not None:
        tags["decided_against"] = str(champion)
    return tags | {f"gate.{one.metric}": f"{'passed' if one.passed else 'failed'}: {one}" for one in comparisons}


def score_tags(found: Mapping[str, float]) -> dict[str, str]:
    return {f"score.{metric}": repr(number) for metric, number in found.items()}
