"""The model registry by hand: what it holds, promotion past the gate, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from overtone.registry import card, decisions, scores, versions
from overtone.registry.decisions import WITHDRAWN, Decision
from overtone.registry.versions import RegistryError
from overtone.tracking import store


@dataclass(frozen=True)
class ModelRow:
    """One version as a table shows it. `scores`: the gate's metrics on `test_set`; `decision`: the last word on it."""

    version: int
    aliases: tuple[str, ...]
    model: str
    created: datetime
    run_id: str
    commit: str
    data_digest: str
    test_set: str
    scores: Mapping[str, float]
    decision: str


def promote(name: str, reference: str | int) -> Decision:
    """Make a version champion whatever the gate says; the champion before it stays reachable by `rollback`.

    Args:
        name: registered model.
        reference: version number or alias.

    Raises:
        RegistryError: no such model, version or alias.
    """
    client = store.client()
    versions.resolve(client, name, reference)
    with store.lock("registry"):
        version = versions.resolve(client, name, reference)
        registered = client.get_registered_model(name)
        number, champion = int(version.version), versions.champion(registered)
        if number == champion:
            return Decision.none(version, champion, "is the champion already")
        versions.make_champion(client, registered, number)
        if WITHDRAWN in version.tags:
            client.delete_model_version_tag(name, version.version, WITHDRAWN)
        card.show_champion(client, name)
        return decisions.write(client, registered, version, "promote", True, "by hand")


def rollback(name: str) -> Decision:
    """Give the champion's place back to the champion before; can be repeated back to the first.

    The version that loses the place is tagged `withdrawn`: `register` does not promote it again.

    Raises:
        RegistryError: no such model, no champion, or none before it.
    """
    client = store.client()
    versions.resolve(client, name, versions.CHAMPION)
    with store.lock("registry"):
        champion = int(versions.resolve(client, name, versions.CHAMPION).version)
        present = {int(one.version) for one in versions.listed(client, name)}
        registered = client.get_registered_model(name)
        history = versions.history(registered)
        while history and (history[-1] not in present or history[-1] == champion):
            history.pop()
        if not history:
            raise RegistryError(f"{name}: champion {champion} is the first; there is no champion to go back to")
        target = history.pop()
        versions.set_champion(client, name, target, history)
        withdrawn = {WITHDRAWN: versions.now(), "decision": f"taken back: by hand, for version {target}"}
        versions.write(client, name, champion, withdrawn)
        card.show_champion(client, name)
        version, reason = versions.resolve(client, name, target), f"by rollback from version {champion}"
        return decisions.write(client, registered, version, "rollback", True, reason, facts={"withdrawn": champion})


def models(name: str) -> list[ModelRow]:
    """All versions, the newest first; none if nothing was registered under this name yet."""
    client = store.client()
    found = sorted(versions.listed(client, name), key=lambda version: -int(version.version))
    if not found:
        return []
    aliases = client.get_registered_model(name).aliases
    return [
        ModelRow(
            version=int(version.version),
            aliases=tuple(sorted(alias for alias, number in aliases.items() if str(number) == str(version.version))),
            model=version.tags.get("model", ""),
            created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            run_id=version.run_id or "",
            commit=version.tags.get("git_commit", ""),
            data_digest=version.tags.get("data_digest", ""),
            test_set=version.tags.get("test_set", ""),
            scores=scores.tagged(version),
            decision=version.tags.get("decision", ""),
        )
        for version in found
    ]


def has_champion(name: str) -> bool:
    """Whether the registry holds a champion of this name; a registry that refuses to say is an error."""
    from mlflow.exceptions import MlflowException

    try:
        store.client().get_model_version_by_alias(name, versions.CHAMPION)
    except MlflowException as error:
        # The second is MLflow's word for an alias that a model lacks.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return False
        raise
    return True
