"""What to type when a registered version's stored weights are damaged."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from overtone.registry import packaging
from overtone.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def advice(client: MlflowClient, version: ModelVersion, file: str, digest: str) -> str:
    """How to mend a version one of whose files is not of this SHA-256: by a sound copy in this project, if there is one."""
    sound = next((path for path in _copies(store.repository_root(), file) if _digest(path) == digest), None)
    stored = _stored(client, version, file)
    if sound is not None and stored is not None:
        return f"put the sound file back: `{shlex.join(['cp', str(sound), str(stored)])}`"
    where = f"; a sound copy is {sound}" if sound else ""
    return f"`overtone reproduce {version.version} --keep` trains it again{where}"


def _copies(root: Path, file: str) -> list[Path]:
    return sorted([*root.glob(f"models/*/{file}"), *root.glob(f".overtone/models/*/{file}")])


def _stored(client: MlflowClient, version: ModelVersion, file: str) -> Path | None:
    """The damaged file, where it lies on this machine."""
    from mlflow.exceptions import MlflowException

    model_id = str(version.source or "").removeprefix("models:/")
    try:
        parts = urlsplit(str(client.get_logged_model(model_id).artifact_location))
    except MlflowException:
        return None
    if parts.scheme not in ("", "file"):
        return None
    path = Path(unquote(parts.path)) / "artifacts" / packaging.ARTIFACT / file
    return path if path.is_file() else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
