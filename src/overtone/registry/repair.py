"""A registered version whose stored files are damaged or gone, mended by sound copies in the project."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from overtone.registry import packaging, versions
from overtone.registry.versions import RegistryError
from overtone.settings import project
from overtone.tracking import store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_PLACES = "models/ and .overtone/models/"


def advice(version: ModelVersion) -> str:
    """What to type when a version's stored files are damaged or gone."""
    if (sound := _sound_copy(version)) is not None:
        return f"`overtone repair {version.version}` puts them back from {sound}"
    return f"`overtone reproduce {version.version} --keep` trains it again; {_PLACES} hold no sound copy"


def repair(name: str, reference: str) -> tuple[int, Path]:
    """Put a version's files back where the registry keeps them.

    The graph is made again where no sound copy of it is left; its digest is noted afresh then.

    Args:
        name: registered model.
        reference: version number or alias.

    Returns:
        The version, and the folder that its weights were taken from.

    Raises:
        RegistryError: no such version, or no sound copy of its files in the project.
    """
    client = store.client()
    version = versions.resolve(client, name, reference)
    listing: dict[str, str] = json.loads(version.tags.get("files_sha256", "{}"))
    copies = {
        file: place / file
        for place in reversed(_folders())
        for file, digest in packaging.digested(place).items()
        if listing.get(file) == digest
    }
    if lacking := [file for file in packaging.REQUIRED if file not in copies]:
        raise RegistryError(
            f"{name} version {version.version}: {_PLACES} hold no sound copy of {', '.join(lacking)}; {advice(version)}"
        )
    with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        for file, copy in copies.items():
            shutil.copyfile(copy, folder / file)
        with packaging.package(folder) as made:
            client.log_model_artifacts(str(version.source).removeprefix("models:/"), str(made))
            digests = packaging.digested(made / "artifacts" / packaging.ARTIFACT)
    if digests != listing:
        versions.write(client, name, int(version.version), {"files_sha256": json.dumps(digests)})
    return int(version.version), copies[packaging.WEIGHTS].parent


def _sound_copy(version: ModelVersion) -> Path | None:
    """A model folder of the project with the version's weights."""
    digest = version.tags.get("weights_sha256", "")
    return next((place for place in _folders() if packaging.digested(place).get(packaging.WEIGHTS) == digest), None)


def _folders() -> list[Path]:
    home = project.home()
    places = ([home / "models"] if home else []) + [project.cache()]
    return [path.parent for place in places for path in sorted(place.glob(f"*/{packaging.WEIGHTS}"))]
