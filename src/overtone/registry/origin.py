"""What a registered version was made from, as its tags, its run and its files say, unchecked."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from overtone.registry import packaging, scores, versions
from overtone.registry.scores import Scored
from overtone.registry.versions import RegistryError
from overtone.settings import project
from overtone.tracking import entries, git, provenance, store
from overtone.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Origin:
    """What a version was made from, as its tags, its run and its files say.

    `dirty`: whether the commit alone is not the source, None if nobody knows; `patch`: what it was changed by, if that was
    kept. `metrics`: the scores by dotted name, on the test set `test_set`.
    """

    name: str
    version: int
    model: str
    run_id: str
    commit: str
    dirty: bool | None
    patch: bytes | None
    corpus: str
    data_digest: str
    weights_sha256: str
    test_set: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """What all checks look at. `folder`: the registered files, None if they cannot be had; `files`: what the run kept."""

    client: MlflowClient
    version: ModelVersion
    root: Path
    run: Run | None
    folder: Path | None
    files: Mapping[str, bytes] = field(default_factory=dict)
    fault: str = ""

    @property
    def home(self) -> Path:
        """The project's root, where DVC's cache is."""
        return project.home() or self.root

    @property
    def run_tags(self) -> dict[str, str]:
        return dict(self.run.data.tags) if self.run else {}

    @property
    def commit(self) -> str:
        return str(self.version.tags.get("git_commit", ""))

    @property
    def corpus(self) -> str:
        return str(self.run.data.params.get("corpus.path", "data")) if self.run else "data"

    @property
    def dirty(self) -> bool | None:
        marked = self.run_tags.get("git_dirty")
        return None if marked is None else marked == "true"

    def has_commit(self) -> bool:
        return git.has_commit(self.root, self.commit)

    def committed(self, name: str) -> bytes | None:
        return git.at(self.root, self.commit, name) if self.commit else None

    def is_kept(self, name: str) -> bool:
        """Whether a file that the run kept is the one whose digest it noted."""
        return name in self.files and hashlib.sha256(self.files[name]).hexdigest() == self.run_tags.get(
            f"source.{name}"
        )

    def used(self, name: str) -> tuple[bytes | None, str]:
        """A source file as the training had it, and where that is from."""
        if self.dirty is False and (content := self.committed(name)) is not None:
            return content, f"in commit {self.commit[:7]}"
        return self.files.get(name), "kept with the run"


def of(name: str, reference: str) -> Origin:
    """What a version was made from, unchecked.

    Raises:
        RegistryError: no such model, version or alias.
    """
    client = store.client()
    return summary(case(client, versions.resolve(client, name, reference), None))


def case(client: MlflowClient, version: ModelVersion, into: Path | None) -> Case:
    """All that can be had of a version; its files only with a folder to put them into."""
    from mlflow.exceptions import MlflowException

    run, folder, fault = None, None, ""
    if version.run_id and entries.exists(client, version.run_id):
        run = client.get_run(version.run_id)
    if into is not None:
        try:
            folder = packaging.download(version, into)
        except TrackingError as error:
            fault = str(error)
    files = {}
    if run is not None:
        try:
            with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
                kept = Path(client.download_artifacts(versions.run_of(version), "source", temporary))
                files = {path.name: path.read_bytes() for path in kept.iterdir() if path.is_file()}
        except (MlflowException, OSError):
            # A run of before, or restored from a model's files: it kept nothing.
            files = {}
    return Case(client, version, project.source() or Path.cwd(), run, folder, files, fault)


def summary(case: Case) -> Origin:
    """What a case comes to."""
    tags, patch = case.version.tags, case.files.get(provenance.PATCH)
    kept: Scored | None
    try:
        kept = scores.kept(case.client, case.version, tags.get(scores.KEY, ""))
    except RegistryError:
        kept = None
    metrics = dict(entries.leaves(kept.metrics)) if kept else {}
    if not kept and case.run:
        found = case.run.data.metrics.items()
        metrics = {name.removeprefix("test/"): value for name, value in found if name.startswith("test/")}
    return Origin(
        name=case.version.name,
        version=int(case.version.version),
        model=tags.get("model", ""),
        run_id=case.version.run_id or "",
        commit=case.commit,
        dirty=case.dirty,
        patch=patch if patch is not None and case.is_kept(provenance.PATCH) else None,
        corpus=case.corpus,
        data_digest=tags.get("data_digest", ""),
        weights_sha256=tags.get("weights_sha256", ""),
        test_set=tags.get("test_set", ""),
        metrics=metrics,
    )
