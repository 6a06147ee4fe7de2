"""From a registered version back to its run, commit, settings and data: each step checked against what can be had here."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from overtone.data.shards import Place, read_index
from overtone.errors import OvertoneError
from overtone.registry import decisions, packaging, scores, versions
from overtone.registry.versions import RegistryError
from overtone.settings import project
from overtone.tracking import dvc, entries, git, naming, provenance, store, transfer
from overtone.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

State = Literal["ok", "differs", "unknown"]


@dataclass(frozen=True)
class Link:
    """One step back: what it is, its value, whether it could be checked and held, and how or why not."""

    what: str
    value: str
    state: State
    note: str


@dataclass(frozen=True)
class Origin:
    """What a version was made from, as its tags, its run and the files that the run kept say.

    Attributes:
        dirty: whether the commit alone is not the source; None if nobody knows.
        patch: what the commit was changed by, if that was kept.
        metrics: the scores by dotted name, on the test set `test_set`.
        links: the steps back, where they were asked for.
    """

    name: str
    version: int
    model: str
    run_id: str
    commit: str
    dirty: bool | None
    patch: bytes | None
    corpus: str
    weights_sha256: str
    test_set: str
    metrics: Mapping[str, float]
    links: tuple[Link, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing differs; what could not be checked does not count against it."""
        return all(link.state != "differs" for link in self.links)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"patch": self.patch is not None, "holds": self.holds}


def trace(name: str, reference: str, check: bool = True) -> Origin:
    """What a version was made from.

    Args:
        name: registered model.
        reference: version or alias.
        check: every step too, which fetches the version's files.

    Raises:
        RegistryError: no such model, version or alias.
    """
    client = store.client()
    version = versions.resolve(client, name, reference)
    known = version.run_id and entries.exists(client, version.run_id)
    run = client.get_run(str(version.run_id)) if known else None
    case = _Case(version, run, _kept(version) if run else {})
    tags = version.tags
    return Origin(
        name=version.name,
        version=int(version.version),
        model=tags.get("model", ""),
        run_id=version.run_id or "",
        commit=case.commit,
        dirty=case.dirty,
        patch=case.files.get(provenance.PATCH) if case.is_kept(provenance.PATCH) else None,
        corpus=case.corpus,
        weights_sha256=tags.get("weights_sha256", ""),
        test_set=tags.get("test_set", ""),
        metrics=_metrics(case),
        links=tuple(one(case) for one in _CHECKS) if check else (),
    )


def text(origin: Origin) -> str:
    """Two lines for each step, and how to make the version again."""
    width = max(len(link.what) for link in origin.links)
    lines = []
    for link in origin.links:
        lines += [f"{link.state:<8}{link.what:<{width}}  {link.value}", f"{'':<{8 + width}}    {link.note}"]
    if not origin.commit or (origin.dirty and origin.patch is None):
        return "\n".join([*lines, "", "It cannot be made again: its source was not kept whole."])
    changed = f", with the changes in artifact source/{provenance.PATCH} of its run," if origin.dirty else ""
    again = f"To make it again from commit {origin.commit[:10]}{changed} and compare it:"
    return "\n".join([*lines, "", again, f"  overtone reproduce {origin.version}"])


@dataclass(frozen=True)
class _Case:
    """What the checks look at: the version, its run if the store has it, and the files of its source that the run kept."""

    version: ModelVersion
    run: Run | None
    files: Mapping[str, bytes]

    @property
    def root(self) -> Path:
        return project.source() or Path.cwd()

    @property
    def tags(self) -> dict[str, str]:
        """Of the run."""
        return dict(self.run.data.tags) if self.run else {}

    @property
    def commit(self) -> str:
        return str(self.version.tags.get("git_commit", ""))

    @property
    def dirty(self) -> bool | None:
        marked = self.tags.get("git_dirty")
        return None if marked is None else marked == "true"

    @property
    def corpus(self) -> str:
        return str(self.run.data.params.get("corpus.path", "data")) if self.run else "data"

    def is_kept(self, name: str) -> bool:
        """Whether a file that the run kept is the one whose digest it noted."""
        return name in self.files and _sha256(self.files[name]) == self.tags.get(f"source.{name}")

    def used(self, name: str) -> tuple[bytes | None, str]:
        """A source file as the training had it, and where that is from."""
        if self.dirty is False and (content := git.at(self.root, self.commit, name)) is not None:
            return content, f"in commit {self.commit[:7]}"
        return self.files.get(name), "kept with the run"


def _kept(version: ModelVersion) -> dict[str, bytes]:
    from mlflow.exceptions import MlflowException

    try:
        with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
            found = Path(store.client().download_artifacts(str(version.run_id), "source", temporary))
            return {path.name: path.read_bytes() for path in found.iterdir() if path.is_file()}
    except (MlflowException, OSError):
        # A run that was made again from a model's files kept nothing.
        return {}


def _metrics(case: _Case) -> dict[str, float]:
    """The scores that were judged; where they are gone, those that the run has."""
    try:
        if found := scores.kept(store.client(), case.version, case.version.tags.get(scores.KEY, "")):
            return dict(entries.leaves(found.metrics))
    except RegistryError:
        pass
    logged = case.run.data.metrics if case.run else {}
    return {name.removeprefix("test/"): value for name, value in logged.items() if name.startswith("test/")}


# --- the steps ----------------------------------------------------------------------------------------------------------


def _link(what: str, value: str, holds: bool | None, note: str) -> Link:
    return Link(what, value, "unknown" if holds is None else "ok" if holds else "differs", note)


def _version(case: _Case) -> Link:
    version = case.version
    aliases = store.client().get_registered_model(version.name).aliases
    own = ", ".join(sorted(alias for alias, number in aliases.items() if str(number) == str(version.version)))
    value = f"models:/{version.name}/{version.version}{f' ({own})' if own else ''}"
    return _link("version", value, True, version.tags.get("decision", "not judged"))


def _weights(case: _Case) -> Link:
    noted = case.version.tags.get("weights_sha256", "")
    value = f"sha256 {noted[:16]}"
    with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
        try:
            found = packaging.digested(packaging.download(case.version, Path(temporary)))[packaging.WEIGHTS]
        except TrackingError as error:
            return _link("weights", value, None, str(error))
    return _link("weights", value, found == noted, f"the registered file has {found[:16]}")


def _run(case: _Case) -> Link:
    if case.run is None:
        return _link("run", case.version.run_id or "none", None, f"{store.public_uri()} does not have it (any more)")
    value = f"{case.run.info.run_name} ({case.run.info.run_id}) in {store.public_uri()}"
    wrong = [
        f"{name} is {case.tags[name]} by the run, {noted} by the version"
        for name, noted in case.version.tags.items()
        if name in ("git_commit", "data_digest", "model") and case.tags.get(name, noted) != noted
    ]
    if not wrong and transfer.RESTORED in case.tags:
        return _link("run", value, None, "made again from the files of a run of another store")
    note = "; ".join(wrong) or f"{case.run.info.status}; names the same commit, data and model"
    return _link("run", value, not wrong, note)


def _scores(case: _Case) -> Link:
    key, noted = case.version.tags.get(scores.KEY, ""), decisions.scores(case.version)
    value = ", ".join(f"{name} {number:g}" for name, number in noted.items())
    try:
        kept = scores.kept(store.client(), case.version, key)
    except RegistryError as error:
        return _link("scores", value, False if "other scores" in str(error) else None, str(error))
    if kept is None:
        return _link("scores", value, None, "the version keeps no scores by clip")
    wrong = [name for name, number in noted.items() if kept.value(name) != number]
    if case.run is not None and case.tags.get("test_set") == kept.test_set:
        for name, number in entries.leaves(kept.metrics):
            if abs(case.run.data.metrics.get(entries.legal(f"test/{name}"), number) - number) > 1e-9:
                wrong.append(f"test/{name} of the run")
    place = scores.folder(case.version, key)
    note = f"not as in {place}: {', '.join(wrong[:3])}" if wrong else f"as in {place}, test set {kept.test_set[:12]}"
    return _link("scores", value, not wrong, note)


def _commit(case: _Case) -> Link:
    holds: bool | None = None
    if not case.commit:
        note = "trained outside git: cannot be reproduced"
    elif not git.has_commit(case.root, case.commit):
        note = "not in this clone; git fetch may bring it"
    elif case.dirty is None:
        note = "in this clone; whether it had uncommitted changes is not known"
    elif not case.dirty:
        holds, note = True, "in this clone; nothing was uncommitted"
    elif provenance.PATCH not in case.files:
        note = "with uncommitted changes that were not kept: cannot be reproduced from the commit alone"
    elif not case.is_kept(provenance.PATCH):
        holds, note = False, f"source/{provenance.PATCH} of the run is not what it noted"
    else:
        left_out = case.tags.get(provenance.LEFT_OUT)
        holds, note = True, f"with uncommitted changes, kept with the run (source/{provenance.PATCH})"
        note += f"; without {left_out}" if left_out else ""
    return _link("commit", case.commit or "none", holds, note)


def _settings(case: _Case) -> Link:
    content, where = case.used(provenance.SETTINGS)
    noted = case.tags.get(f"source.{provenance.SETTINGS}")
    if content is None or case.run is None or not noted:
        return _link("settings", provenance.SETTINGS, None, "neither the commit nor the run has the file")
    value = f"{provenance.SETTINGS}, sha256 {_sha256(content)[:16]}"
    if _sha256(content) != noted:
        return _link("settings", value, False, f"{where}; the run was made with sha256 {noted[:16]}")
    if (flat := naming.flat(content)) is None:
        return _link("settings", value, None, f"{where}; this version of Overtone does not read the file")
    logged = dict(case.run.data.params) | {
        name.removeprefix("changed."): one for name, one in case.tags.items() if name.startswith("changed.")
    }
    wrong = [key for key, one in flat.items() if logged.get(entries.legal(key), entries.text(one)) != entries.text(one)]
    note = f"the run has another {', '.join(wrong[:5])}" if wrong else "the same settings as the run's"
    return _link("settings", value, not wrong, f"{where}; {note}")


def _data(case: _Case) -> Link:
    noted, name = case.version.tags.get("data_digest", ""), dvc.pointer(case.corpus)
    if not noted:
        return _link("data", case.corpus, None, "DVC did not track the recordings: cannot be reproduced")
    content, where = case.used(name)
    found = dvc.pointed(content)
    note = f"neither the commit nor the run has {name}" if found is None else f"{name} {where} names {found}"
    return _link("data", f"{case.corpus}, md5 {noted}", None if found is None else found == noted, note)


def _corpus(case: _Case) -> Link:
    """What was read: shards, or the corpus by its manifest, which is another one if its stage was run by hand otherwise."""
    if url := case.tags.get("shards"):
        return _shards(url, case.tags.get("shards_digest", ""))
    noted = case.tags.get("corpus_manifest")
    if not noted:
        return _link("corpus", "stage corpus", None, "the run noted no manifest of it")
    locked = dvc.output(case.files.get(dvc.LOCK) if case.is_kept(dvc.LOCK) else None, "corpus")
    named = dvc.listed(project.home() or case.root, locked, provenance.MANIFEST) if locked else None
    value = f"{provenance.MANIFEST}, md5 {noted}"
    if named is None:
        return _link("corpus", value, None, "no dvc.lock whose files are in this cache names it")
    note = f"dvc.lock, as it was when the run began, names {'it' if named == noted else 'another'} ({locked})"
    return _link("corpus", value, named == noted, note)


def _shards(url: str, noted: str) -> Link:
    value = f"{url}, sha256 {noted[:16]}"
    try:
        found = read_index(Place(url)).digest
    except OvertoneError as error:
        return _link("shards", value, None, str(error))
    return _link("shards", value, found == noted, f"the index there has {found[:16]}")


_CHECKS = (_version, _weights, _run, _scores, _commit, _settings, _data, _corpus)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
