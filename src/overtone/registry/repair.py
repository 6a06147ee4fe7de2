"""A registered version whose stored files are damaged or gone, mended by a sound copy in the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from overtone.registry import packaging, versions
from overtone.registry.versions import RegistryError
from overtone.settings import project
from overtone.tracking import store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def advice(version: ModelVersion) -> str:
    """What to type when a version's stored files are damaged or gone."""
    if (sound := _sound_copy(version)) is not None:
        return f"`overtone repair {version.version}` puts them back from {sound}"
    return (
        "models/ and .overtone/models/ hold no sound copy of its files; "
        f"`overtone reproduce {version.version} --keep` trains it again"
    )


def repair(name: str, reference: str) -> tuple[int, Path]:
    """Put a version's files back where the registry keeps them; the graphs are made again.

    Args:
        name: registered model.
        reference: version number or alias.

    Returns:
        The version, and the folder that its files were taken from.

    Raises:
        RegistryError: no such version, or no sound copy of its files in the project.
    """
    client = store.client()
    version = versions.resolve(client, name, reference)
    if (sound := _sound_copy(version)) is None:
        raise RegistryError(f"{name} version {version.version}: {advice(version)}")
    model_id = str(version.source).removeprefix("models:/")
    with packaging.package(sound, str(version.run_id), model_id) as made:
        client.log_model_artifacts(model_id, str(made))
        digests = packaging.digested(made / "artifacts" / packaging.ARTIFACT)
    versions.write(client, name, int(version.version), {packaging.FILES: json.dumps(digests)})
    return int(version.version), sound


def _sound_copy(version: ModelVersion) -> Path | None:
    """A model folder of the project whose files are the version's."""
    home, listing = project.home(), json.loads(version.tags.get(packaging.FILES, "{}"))
    for place in ([home / "models"] if home else []) + [project.cache()]:
        for path in sorted(place.glob(f"*/{packaging.WEIGHTS}")):
            found = packaging.digested(path.parent)
            if all(name in found and found[name] == listing.get(name) for name in packaging.REQUIRED):
                return path.parent
    return None
