"""Versions of a registered model: found by number or alias, tagged, and the champion's alias with its history."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from overtone.tracking import store
from overtone.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous-champion"
HISTORY = "champion_history"
# What PostgreSQL takes as a tag's value.
TAG_LENGTH = 5000
_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")


class RegistryError(TrackingError):
    """A registry request that cannot be met; the message names model and version and what was expected."""


def listed(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of a registered model, in no order."""
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = {_quoted(name)}", max_results=200, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _quoted(name: str) -> str:
    """A name as MLflow's filters take it."""
    return f'"{name}"' if "'" in name else f"'{name}'"


def resolve(client: MlflowClient, name: str, reference: str | int) -> ModelVersion:
    """The version that a number or alias names.

    Raises:
        RegistryError: no such model, version or alias.
    """
    from mlflow.exceptions import MlflowException

    text = str(reference).strip()
    try:
        if text.isdecimal():
            return client.get_model_version(name, text)
        return client.get_model_version_by_alias(name, text)
    except MlflowException:
        pass
    numbers = sorted(int(version.version) for version in listed(client, name))
    if not numbers:
        raise RegistryError(f"{name}: no such model in {store.public_uri()}; `dvc repro` registers one")
    aliases = ", ".join(sorted(client.get_registered_model(name).aliases)) or "none"
    span = f"{numbers[0]} to {numbers[-1]}"
    raise RegistryError(f"{name}: no version or alias {text!r}; expected a version ({span}) or an alias ({aliases})")


def address(reference: str, name: str) -> tuple[str, str]:
    """Registered model, and version or alias, of `models:/name@alias`, `models:/name/3`, or of an alias or number alone.

    Args:
        reference: what the user wrote.
        name: the registered model that an alias or number alone is of.

    Raises:
        RegistryError: an address of MLflow's that is none of these.
    """
    text = reference.strip()
    if not text.startswith("models:"):
        return name, text
    found = _ADDRESS.fullmatch(text)
    if not found:
        raise RegistryError(f"{text}: expected models:/{name}@champion, models:/{name}/3, an alias or a version number")
    return found["name"], found["version"] or found["alias"]


def champion(registered: RegisteredModel) -> int | None:
    """The champion's version, None if there is none."""
    number = registered.aliases.get(CHAMPION)
    return None if number is None else int(number)


def history(registered: RegisteredModel) -> list[int]:
    """Earlier champions, the oldest first."""
    return [int(number) for number in json.loads(registered.tags.get(HISTORY, "[]"))]


def make_champion(client: MlflowClient, registered: RegisteredModel, number: int) -> None:
    """Make a version champion and put the one before on top of the history.

    Args:
        registered: the model as it was when the change was decided on.

    Raises:
        RegistryError: another process has changed the champion since, or does so now.
    """
    before = champion(registered)
    found = champion(client.get_registered_model(registered.name))
    if found != before:
        raise RegistryError(
            f"{registered.name}: another process has made version {found} champion meanwhile, which version {number} was not "
            "compared with; run the command again"
        )
    earlier = history(registered) + ([] if before is None else [before])
    set_champion(client, registered.name, number, earlier)


def set_champion(client: MlflowClient, name: str, number: int, earlier: Sequence[int]) -> None:
    """Move the alias and its history.

    History first: if the alias then fails to move, the champion is on top of its own history, which rollback skips. Over
    several machines nothing keeps two processes apart, since MLflow has no lock and no "change only if unchanged": what was
    written is read again, and who finds another champion says so.

    Raises:
        RegistryError: somebody else moved the alias at the same time.
    """
    kept = list(earlier)
    while len(written := json.dumps(kept)) > TAG_LENGTH:
        kept = kept[len(kept) // 10 + 1 :]
    client.set_registered_model_tag(name, HISTORY, written)
    if earlier:
        client.set_registered_model_alias(name, PREVIOUS, str(earlier[-1]))
    else:
        client.delete_registered_model_alias(name, PREVIOUS)
    # Last, so that a promotion that was killed before is done whole by the next one.
    client.set_registered_model_alias(name, CHAMPION, str(number))
    found = client.get_registered_model(name)
    if champion(found) != number or found.tags.get(HISTORY) != written:
        raise RegistryError(
            f"{name}: while version {number} became champion, another process made it {champion(found)}; look at "
            "`overtone models` and promote the one that is meant"
        )


def write(client: MlflowClient, name: str, number: int, tags: Mapping[str, str]) -> None:
    """Set tags of a version, cut to what a database takes."""
    for key, value in tags.items():
        text = value if len(value) <= TAG_LENGTH else f"{value[: TAG_LENGTH - 1]}…"
        client.set_model_version_tag(name, str(number), key, text)


def now() -> str:
    """The time in UTC, as tags hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
