"""Registered models as local folders, compared with their digests; kept, so that they serve when the registry is away."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.audio import replacing
from overtone.registry import packaging, repair, versions
from overtone.registry.released import keep_first
from overtone.registry.versions import RegistryError
from overtone.tracking import store
from overtone.tracking.store import AwayError, TrackingError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

# Tag of a version: the SHA-256 of each file of its model folder.
FILES = "files_sha256"


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
        note = _note(name, str(reference), cache)
        folder = cache / Path(str(note.get("folder"))).name
        if not note or not _is_intact(folder, note["files"]):
            raise AwayError(
                f"{error}; {reference!r} was not fetched before (`--model released` does without)"
            ) from None
        print(
            f"{error}; going on with {name} version {note['version']}, fetched before as {reference}", file=sys.stderr
        )
        return folder
    listing, number = _listing(version), str(version.version)
    folder = cache / f"{name}-{number}-{listing[packaging.WEIGHTS][:12]}"
    if not _is_intact(folder, listing):
        _download(version, listing, folder)
    # Who asks for a number knew its alias: a service, which looks up what the alias means before it loads.
    for known_as in {str(reference), number, *version.aliases}:
        _write_note(_note_path(name, known_as, cache), {"version": number, "folder": folder.name, "files": listing})
    return folder


def away_version(name: str, reference: str, cache: Path) -> str | None:
    """The number of the version that was fetched last under an alias or number; None where nothing was."""
    return _note(name, reference, cache).get("version")


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
        for path in found.iterdir():
            # No digest is known of it, and a graph could compute anything.
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in listing:
                path.unlink()
        keep_first(found, folder, lambda: _is_intact(folder, listing))


def _listing(version: ModelVersion) -> dict[str, str]:
    """The digests of a version's files.

    Raises:
        RegistryError: it notes none, or what it notes is no listing of a model folder.
    """
    try:
        listing = json.loads(version.tags.get(FILES, ""))
    except ValueError:
        listing = None
    is_listing = isinstance(listing, dict) and all(
        isinstance(digest, str) and Path(name).name == name for name, digest in listing.items()
    )
    if not is_listing or listing.keys() < set(packaging.REQUIRED):
        raise RegistryError(
            f"{version.name} version {version.version}: its tag {FILES} is damaged or missing; expected the digests that "
            "`register` notes; refused"
        )
    return dict(listing)


def _is_intact(folder: Path, listing: Mapping[str, str]) -> bool:
    """Whether a folder holds the listed files and nothing else."""
    return (
        folder.is_dir()
        and not any(path.is_dir() for path in folder.iterdir())
        and packaging.digested(folder) == dict(listing)
    )


# --- what was fetched last, for when the registry is away ---------------------------------------------------------------


def _note_path(name: str, reference: str, cache: Path) -> Path:
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in f"{name}@{reference}")
    return cache / ".known" / f"{safe}.json"


def _note(name: str, reference: str, cache: Path) -> dict[str, Any]:
    """Version, folder and files; empty where nothing was fetched."""
    try:
        note = json.loads(_note_path(name, reference, cache).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _write_note(path: Path, note: Mapping[str, Any]) -> None:
    # A cache that cannot be written to serves as it is.
    with suppress(OSError):
        text = json.dumps(note)
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(text)
