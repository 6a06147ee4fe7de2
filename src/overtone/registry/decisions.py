"""Decisions about the champion: their figures as tags of the version, and as a file among the artifacts of its run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from overtone.registry import versions
from overtone.registry.gate import Comparison
from overtone.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

# Tag of a version that was taken back, and when.
WITHDRAWN = "withdrawn"

Action = Literal["register", "promote", "rollback"]


@dataclass(frozen=True)
class Decision:
    """What happened to a version and why.

    Attributes:
        champion, previous: the champion's version after and before.
        comparisons: the gate's figures, main metric first.
        created: whether the version is new in the registry.
        record: the decision as it was written down, empty where there was nothing to decide.
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
    """Write a decision down: the file first, then the tags.

    Args:
        registered: the model as it was before the decision.
        version: what was decided about; `promoted`: whether it became champion.
        reason: in a sentence.
        facts: what else the file shall hold.
    """
    from mlflow.exceptions import MlflowException

    number, previous = int(version.version), versions.champion(registered)
    champion = number if promoted else previous
    model = version.tags.get("model", "")
    decision = Decision(registered.name, number, model, promoted, champion, previous, reason, tuple(comparisons))
    time = datetime.now(UTC)
    record = {
        **asdict(decision),
        "time": time.isoformat(),
        "action": action,
        "by": store.user(),
        "run_id": version.run_id,
        "weights_sha256": version.tags.get("weights_sha256", ""),
        **(facts or {}),
    }
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    # A version may outlive its run; that must not keep anyone from going back to it.
    with suppress(MlflowException, OSError):
        client.log_text(str(version.run_id), text, f"decisions/{time:%Y%m%dT%H%M%S.%fZ}-{number}.json")
    tags = {"decision": sentence(promoted, reason), "decided": versions.now()}
    tags |= {f"gate.{one.metric}": f"{'passed' if one.passed else 'failed'}: {one}" for one in comparisons}
    versions.write(client, registered.name, number, tags)
    return replace(decision, record=record)
