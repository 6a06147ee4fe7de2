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
# What a version without it is taken with: text that is checked when it is read.
_KNOWN = {*packaging.REQUIRED, *packaging.OPTIONAL}


def fetch(name: str, reference: str | int, cache: Path) -> Path:
    """A local model folder of a registered version, its files checked against their digests in the registry.

    No code that the version carries is run. Of a version that notes only its weights' digest (0.1.0 made them) the graph is
    left out: it computes, and nothing vouches for it. Where the registry is away, what was fetched before is used, and said.

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
        return _remembered(name, str(reference), cache, error)
    digest = version.tags.get("weights_sha256", "")
    if not digest:
        raise RegistryError(f"{name} version {version.version}: has no tag weights_sha256; it was not made by register")
    listing = _listing(version, digest)
    folder = cache / f"{name}-{version.version}-{digest[:12]}"
    if not _intact(folder, listing):
        _download(version, listing, folder)
    number = str(version.version)
    remember(name, str(reference), number, cache)
    _write_note(_note_path(name, number, cache), {"folder": folder.name, "files": listing})
    return folder


def _download(version: ModelVersion, listing: Mapping[str, str], folder: Path) -> None:
    """Make a version's folder, whole or not at all; of several processes that do so the first one's stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as temporary:
        try:
            found = packaging.download(version, Path(temporary) / "found")
        except TrackingError as error:
            raise RegistryError(f"{error}; {repair.advice(version)}") from None
        if (other := _other(found, listing)) is not None:
            what = "weights are not those that were" if other == packaging.WEIGHTS else f"{other} is not what was"
            raise RegistryError(
                f"{version.name} version {version.version}: the stored {what} registered "
                f"(expected sha256 {listing[other][:12]}...); refused; {repair.advice(version)}"
            )
        for path in _strangers(found, listing):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        keep_first(found, folder, lambda: _intact(folder, listing))


def _listing(version: ModelVersion, weights: str) -> dict[str, str]:
    """The digests of a version's files, as far as it notes them.

    Raises:
        RegistryError: what it notes is no listing of a model folder.
    """
    text = version.tags.get(FILES)
    if text is None:
        return {packaging.WEIGHTS: weights}
    try:
        listing = json.loads(text)
    except ValueError:
        listing = None
    named = isinstance(listing, dict) and all(
        isinstance(digest, str) and Path(name).name == name for name, digest in listing.items()
    )
    if not named or listing.get(packaging.WEIGHTS) != weights or not listing.keys() >= set(packaging.REQUIRED):
        raise RegistryError(f"{version.name} version {version.version}: its tag {FILES} is damaged; refused")
    return dict(listing)


def _intact(folder: Path, listing: Mapping[str, str]) -> bool:
    return folder.is_dir() and _other(folder, listing) is None and not _strangers(folder, listing)


def _other(folder: Path, listing: Mapping[str, str]) -> str | None:
    """The first listed file that is not what is listed."""
    found = packaging.digested(folder)
    return next((name for name, digest in listing.items() if found.get(name) != digest), None)


def _strangers(folder: Path, listing: Mapping[str, str]) -> list[Path]:
    wanted = set(listing) if len(listing) > 1 else _KNOWN
    return [path for path in folder.iterdir() if path.is_dir() or path.name not in wanted]


# --- while the registry is away -----------------------------------------------------------------------------------------


def remember(name: str, reference: str, number: str, cache: Path) -> None:
    """Note which version an alias means, for when the registry is away."""
    if reference != number:
        _write_note(_note_path(name, reference, cache), {"version": number})


def away_version(name: str, reference: str, cache: Path) -> str | None:
    """The version that an alias or number meant when it was last looked up, if that was fetched; None where nothing was."""
    note = _note(name, reference, cache)
    number = str(note["version"]) if note and "version" in note else reference
    return number if _note(name, number, cache) else None


def _note_path(name: str, reference: str, cache: Path) -> Path:
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in f"{name}@{reference}")
    return cache / ".known" / f"{safe}.json"


def _write_note(path: Path, note: Mapping[str, Any]) -> None:
    # A cache that cannot be written to serves as it is.
    with suppress(OSError):
        if _read_note(path) != note:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(note))


def _note(name: str, reference: str, cache: Path) -> dict[str, Any] | None:
    return _read_note(_note_path(name, reference, cache))


def _read_note(path: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def _remembered(name: str, reference: str, cache: Path, error: AwayError) -> Path:
    """The folder that was fetched before.

    Raises:
        AwayError: there is none, or it is no longer what was fetched.
    """
    number = away_version(name, reference, cache)
    note = _note(name, number, cache) if number else None
    if note is not None and _intact(folder := cache / Path(str(note["folder"])).name, note["files"]):
        print(f"{error}; going on with {name} version {number}, fetched before as {reference}", file=sys.stderr)
        return folder
    raise AwayError(f"{error}; {reference!r} was not fetched before (`--model released` does without)") from None
