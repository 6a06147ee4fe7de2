"""Registered models as local folders, compared with their digests; kept, so that they serve when the registry is away."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from overtone.audio import replacing
from overtone.registry import packaging, repair, versions
from overtone.registry.released import keep_first
from overtone.registry.versions import RegistryError
from overtone.tracking import store
from overtone.tracking.store import AwayError, TrackingError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def fetch(name: str, reference: str | int, cache: Path) -> Path:
    """A local model folder of a registered version, its files checked against their digests in the registry.

    No code that the version carries is run. Where the registry is away, what was fetched before is used, and standard error
    says so.

    Args:
        name: registered model.
        reference: "champion", "challenger", another alias, or a version number.
        cache: where model folders are kept; a version already there and intact is not downloaded again.

    Returns:
        A folder with `weights.safetensors`, `config.json` and `run.json`.

    Raises:
        RegistryError: no such version, its files cannot be had, or they are not those that were registered.
        AwayError: the registry does not answer, and nothing was fetched before.
    """
    try:
        version = versions.resolve(store.client(), name, reference)
    except AwayError as error:
        if (folder := fetched_before(name, reference, cache)) is None:
            raise AwayError(
                f"{error}; {reference!r} was not fetched before (`--model released` does without)"
            ) from None
        print(f"{error}; going on with {folder}, fetched before as {reference}", file=sys.stderr)
        return folder
    listing, number = _listing(version), str(version.version)
    folder = cache / f"{name}-{number}-{listing[packaging.WEIGHTS][:12]}"
    if not _is_intact(folder, listing):
        _download(version, listing, folder)
    # Who asks for a number knew its alias: a service, which looks up what the alias means before it loads.
    for known_as in {str(reference), number, *version.aliases}:
        # A cache that cannot be written to serves as it is.
        with suppress(OSError), replacing(_note(name, known_as, cache)) as temporary:
            temporary.write_text(folder.name)
    return folder


def fetched_before(name: str, reference: str | int, cache: Path) -> Path | None:
    """The folder that was fetched last under an alias or number, if its weights are still those that its name says."""
    try:
        folder = cache / Path(_note(name, reference, cache).read_text()).name
        digest = packaging.digested(folder)[packaging.WEIGHTS]
    except (OSError, KeyError):
        return None
    return folder if digest.startswith(folder.name.rpartition("-")[2]) else None


def version_before(name: str, reference: str, cache: Path) -> str | None:
    """The number of the version that was fetched last under an alias or number; None where nothing was."""
    folder = fetched_before(name, reference, cache)
    return None if folder is None else folder.name.split("-")[-2]


def _note(name: str, reference: str | int, cache: Path) -> Path:
    """Where the folder's name is noted that a reference meant last."""
    return cache / f".{name}@{reference}"


def _download(version: ModelVersion, listing: Mapping[str, str], folder: Path) -> None:
    """Make a version's folder, whole or not at all; of several processes that do so the first one's stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as temporary:
        try:
            found = packaging.download(version, Path(temporary) / "found")
        except TrackingError as error:
            raise RegistryError(f"{error}; {repair.advice(version)}") from None
        digests = packaging.digested(found)
        if other := next((name for name, digest in listing.items() if digests.get(name) != digest), None):
            what = "weights are not those that were" if other == packaging.WEIGHTS else f"{other} is not what was"
            raise RegistryError(
                f"{version.name} version {version.version}: the stored {what} registered "
                f"(expected sha256 {listing[other][:12]}...); refused; {repair.advice(version)}"
            )
        # Of other files no digest is known, and a graph could compute anything.
        made = Path(temporary) / "made"
        made.mkdir()
        for name in listing:
            shutil.move(found / name, made / name)
        keep_first(made, folder, lambda: _is_intact(folder, listing))


def _listing(version: ModelVersion) -> dict[str, str]:
    """The digests of a version's files.

    Raises:
        RegistryError: it notes none, or what it notes is no listing of a model folder.
    """
    try:
        listing = json.loads(version.tags.get(packaging.FILES, ""))
    except ValueError:
        listing = None
    is_listing = isinstance(listing, dict) and all(
        isinstance(digest, str) and Path(name).name == name for name, digest in listing.items()
    )
    if not is_listing or listing.keys() < set(packaging.REQUIRED):
        raise RegistryError(
            f"{version.name} version {version.version}: its tag {packaging.FILES} is damaged or missing; "
            "expected the digests that `register` notes; refused"
        )
    return dict(listing)


def _is_intact(folder: Path, listing: Mapping[str, str]) -> bool:
    """Whether a folder holds the listed files and nothing else."""
    return (
        folder.is_dir()
        and not any(path.is_dir() for path in folder.iterdir())
        and packaging.digested(folder) == dict(listing)
    )
