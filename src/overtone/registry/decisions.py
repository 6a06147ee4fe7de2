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

    `champion` and `previous` are the champion's version after and before; `comparisons` the gate's figures, main metric
    first. `created`: the version is new in the registry. `judged`: the gate looked at it now, not on an earlier call.
    `record` is the decision as it was written down, empty where there was nothing to decide.
    """

    name: str
    version: int
    model: str
    promoted: bool
    champion: int | None
    previous: int | None
    reason: str
    comparisons: tuple[Comparison, ...] = ()
    created: bool = False
    judged: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def none(cls, version: ModelVersion, champion: int | None, reason: str, created: bool = False) -> Decision:
        """Nothing was decided about a version; the champion stays."""
        model = version.tags.get("model", "")
        return cls(version.name, int(version.version), model, False, champion, champion, reason, created=created)

    @property
    def changed(self) -> bool:
        """Whether there is another champion now."""
        return self.champion != self.previous


def scores(version: ModelVersion) -> dict[str, float]:
    """The gate's metrics of a version, from its tags."""
    marked = {name.removeprefix("score."): text for name, text in version.tags.items() if name.startswith("score.")}
    return {metric: float(text) for metric, text in marked.items()}


def score_tags(found: Mapping[str, float]) -> dict[str, str]:
    return {f"score.{metric}": repr(number) for metric, number in found.items()}


def sentence(promoted: bool, reason: str) -> str:
    return f"{'promoted' if promoted else 'not promoted'}: {reason}"


def write(
    client: MlflowClient,
    registered: RegisteredModel,
    version: ModelVersion,
    action: Action,
    promoted: bool,
    reason: str,
    comparisons: Sequence[Comparison] = (),
    facts: Mapping[str, Any] | None = None,
) -> Decision:
    """Write a decision down, numbered within the registered model: the file first, then the tags.

    Args:
        registered: the model as it was before the decision.
        version: what was decided about; `promoted`: whether it became champion.
        reason: in a sentence.
        facts: what else the file shall hold.
    """
    from mlflow.exceptions import MlflowException

    champion, time = versions.champion(registered), datetime.now(UTC)
    before = None if champion is None else client.get_model_version(registered.name, str(champion))
    record: dict[str, Any] = {
        "number": int(registered.tags.get(COUNT, "0")) + 1,
        "time": time.isoformat(),
        "action": action,
        "promoted": promoted,
        "reason": reason,
        "champion": int(version.version) if promoted else champion,
        "previous": champion,
        "previous_scores": scores(before) if before else {},
        "comparisons": [asdict(one) | {"passed": one.passed} for one in comparisons],
        **_about(version),
        **(facts or {}),
    }
    client.set_registered_model_tag(registered.name, COUNT, str(record["number"]))
    path = f"decisions/{time:%Y%m%dT%H%M%S.%fZ}-{version.version}.json"
    tags = {"decision": sentence(promoted, reason), "decided": versions.now(), "decision_artifact": path}
    tags |= {"decision_number": str(record["number"])} | ({"decided_against": str(champion)} if champion else {})
    tags |= {f"gate.{one.metric}": f"{'passed' if one.passed else 'failed'}: {one}" for one in comparisons}
    try:
        client.log_text(versions.run_of(version), json.dumps(record, indent=2, sort_keys=True) + "\n", path)
    except (MlflowException, OSError) as error:
        # A version may outlive its run; that must not keep anyone from going back to it.
        tags["decision_artifact"] = f"not written: {error}"[:500]
    number = int(version.version)
    versions.write(client, registered.name, number, tags)
    return Decision(
        registered.name,
        number,
        version.tags.get("model", ""),
        promoted,
        record["champion"],
        champion,
        reason,
        tuple(comparisons),
        judged=True,
        record=record,
    )


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
