"""What a training is made from: code, settings, data and environment, taken once, before the first batch.

Taken at the end it would name what was committed or changed meanwhile; taken from `dvc.lock` it would name data that
`dvc repro` made, and not what a stage run by hand has read.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from overtone import settings
from overtone.settings import project
from overtone.tracking import dvc, entries, git
from overtone.tracking.address import TrackingError

SETTINGS = project.SETTINGS
PATCH = "uncommitted.patch"
LEFT_OUT = "source.left_out"
# Larger changes than this are no edit of code or settings.
PATCH_BYTES = 2_000_000
MANIFEST = "manifest.csv"
_LEFT_OUT_LENGTH = 1000
# What decides the last digits of a result.
_PACKAGES = ("overtone", "torch", "numpy", "scipy", "soundfile", "soxr", "pytorch-lightning")


@dataclass(frozen=True)
class Shards:
    """Shards that a training reads in place of the corpus: where they are, and the SHA-256 of their index."""

    url: str
    digest: str


@dataclass(frozen=True)
class Provenance:
    """What a training is made from.

    Attributes:
        commit: git's; None outside git.
        dirty: whether tracked files differ from it.
        files: `params.yaml`, DVC's pointer and lock and the uncommitted changes, by name.
        left_out: in words, what was left out of the changes; empty if nothing was.
        settings: all settings, dotted, overrides included.
        data: DVC's digest of the recordings as they are on disk; None where DVC does not track them.
        corpus: md5 of the manifest of the clips that were read; None where there is none.
        shards: what is read in place of the corpus.
        environment: versions of Python and of the packages that decide the result, and the platform.
    """

    commit: str | None
    dirty: bool
    files: Mapping[str, bytes]
    left_out: str
    settings: Mapping[str, Any]
    data: str | None
    corpus: str | None
    shards: Shards | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {
            "commit": self.commit,
            "dirty": self.dirty if self.commit else None,
            "data_digest": self.data,
            "corpus_manifest": self.corpus,
            "settings": dict(self.settings),
            "environment": dict(self.environment),
            **({"shards": self.shards.url, "shards_digest": self.shards.digest} if self.shards else {}),
        }

    def tags(self) -> dict[str, str]:
        """The same as tags of a run, with the digests of the files."""
        return tags_of(self.facts()) | {
            **{f"source.{name}": hashlib.sha256(content).hexdigest() for name, content in self.files.items()},
            **({LEFT_OUT: self.left_out} if self.left_out else {}),
        }


def tags_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a run from what its `run.json` says of its provenance."""
    names = ("data_digest", "corpus_manifest", "shards", "shards_digest")
    found = {name: facts.get(name) for name in names}
    dirty = facts.get("dirty")
    found |= {"git_commit": facts.get("commit"), "git_dirty": None if dirty is None else str(dirty).lower()}
    found |= {f"environment.{entries.legal(name)}": value for name, value in (facts.get("environment") or {}).items()}
    return {name: str(value) for name, value in found.items() if value}


def take(params: settings.Params, shards: Shards | None = None) -> Provenance:
    """What a training that begins now is made from.

    Args:
        params: all settings of the training.
        shards: what is read in place of the corpus.

    Raises:
        TrackingError: git refuses the folder, or DVC's pointer to the recordings is damaged.
    """
    root = project.source() or Path.cwd()
    commit = git.commit(root)
    files, left_out = _files(root, params.corpus.path, commit is not None)
    return Provenance(
        commit=commit,
        dirty=commit is not None and git.dirty(root),
        files=files,
        left_out=left_out,
        settings=settings.flatten(params),
        data=_data(root, params.corpus.path),
        corpus=None if shards else _manifest(root / str(params.train.data.source)),
        shards=shards,
        environment=environment(),
    )


def environment() -> dict[str, str]:
    """Versions of what decides a result, and the platform."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _manifest(folder: Path) -> str | None:
    path = folder / MANIFEST
    return dvc.file_md5(path) if path.is_file() else None


def _data(root: Path, folder: Path) -> str | None:
    """DVC's digest of the recordings: of what is on disk, or of what the pointer names where nothing is."""
    path = root / dvc.pointer(folder)
    if not path.is_file():
        return None
    pointed = dvc.pointed(path.read_bytes())
    if pointed is None:
        raise TrackingError(
            f"{path}: expected DVC's pointer file with outs[0].md5; `git restore` or `dvc add` mends it"
        )
    if not (root / folder).is_dir():
        return pointed
    return dvc.digest(root / folder, (project.home() or root) / ".overtone" / "digests.json")


def _files(root: Path, corpus: Path, in_git: bool) -> tuple[dict[str, bytes], str]:
    """The files that a run keeps of its source, and in words what was left out of the changes."""
    found = {Path(name).name: root / name for name in (SETTINGS, dvc.pointer(corpus), dvc.LOCK)}
    files = {name: path.read_bytes() for name, path in found.items() if path.is_file()}
    if not in_git or not git.dirty(root):
        return files, ""
    new, left_out = git.new_files(root)
    changes = git.patch(root, new)
    if len(changes) > PATCH_BYTES:
        return files, f"all changes: {len(changes)} bytes are more than {PATCH_BYTES}"
    files[PATCH] = changes
    names = ", ".join(name.encode(errors="replace").decode() for name in left_out)[:_LEFT_OUT_LENGTH]
    return files, f"{len(left_out)} new file{'s' if len(left_out) > 1 else ''}: {names}" if left_out else ""
