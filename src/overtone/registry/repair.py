"""A registered version whose stored files are damaged or gone, mended by sound copies in the project."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
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
    if (sound := _find(packaging.WEIGHTS, version.tags.get("weights_sha256", ""))) is not None:
        return f"`overtone repair {version.version}` puts them back from {sound.parent}"
    return f"`overtone reproduce {version.version} --keep` trains it again; {sound_places()} hold no sound copy"


def sound_places() -> str:
    return "models/ and .overtone/models/"


def repair(name: str, reference: str) -> tuple[int, Path]:
    """Put a version's files back where the registry keeps them.

    The graph is made again where no sound copy of it is left; its digest is noted afresh then.

    Args:
        name: registered model.
        reference: version number or alias.

    Returns:
        The version, and the folder that its weights were taken from.

    Raises:
        RegistryError: no such version, or no sound copy of its weights in the project.
    """
    client = store.client()
    version = versions.resolve(client, name, reference)
    listing: dict[str, str] = json.loads(version.tags.get("files_sha256", "{}"))
    digest = version.tags.get("weights_sha256", "")
    sound = _find(packaging.WEIGHTS, digest)
    if sound is None:
        raise RegistryError(
            f"{name} version {version.version}: {sound_places()} hold no weights of sha256 {digest[:12]}...; {advice(version)}"
        )
    model_id = str(version.source).removeprefix("models:/")
    with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        for file in listing or packaging.REQUIRED:
            copy = _find(file, listing[file]) if file in listing else sound.with_name(file)
            if copy is not None and copy.is_file():
                shutil.copyfile(copy, folder / file)
        with packaging.package(folder) as made:
            client.log_model_artifacts(model_id, str(made))
            digests = packaging.digested(made / "artifacts" / packaging.ARTIFACT)
    if digests != listing:
        versions.write(client, name, int(version.version), {"files_sha256": json.dumps(digests)})
    return int(version.version), sound.parent


def _find(file: str, digest: str) -> Path | None:
    """A file of this name and SHA-256 in the project's model folders."""
    return next((path for path in _copies(file) if _digest(path) == digest), None)


def _copies(file: str) -> Iterator[Path]:
    home = project.home()
    for folder in ([home / "models"] if home else []) + [project.cache()]:
        yield from sorted(folder.glob(f"*/{file}"))


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
