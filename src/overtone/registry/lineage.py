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
from overtone.registry import packaging, scores, versions
from overtone.registry.scores import ChangedScoresError, Scored
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
    case = _Case(version, run, _kept_files(version) if run else {})
    return Origin(
        name=version.name,
        version=int(version.version),
        model=version.tags.get("model", ""),
        run_id=version.run_id or "",
        commit=version.tags.get("git_commit", ""),
        dirty=case.dirty,
        patch=case.kept(provenance.PATCH),
        corpus=case.corpus,
        weights_sha256=version.tags.get("weights_sha256", ""),
        test_set=version.tags.get("test_set", ""),
        metrics=_metrics(case),
        links=tuple(one(case) for one in _CHECKS) if check else (),
    )


def text(origin: Origin) -> str:
    """Two lines for each step, and how to make the version again."""
    width = max(len(link.what) for link in origin.links)
    lines = [f"{origin.name} version {origin.version}, a {origin.model}"]
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
    def tags(self) -> dict[str, str]:
        """Of the run."""
        return dict(self.run.data.tags) if self.run else {}

    @property
    def dirty(self) -> bool | None:
        marked = self.tags.get("git_dirty")
        return None if marked is None else marked == "true"

    @property
    def corpus(self) -> str:
        return str(self.run.data.params.get("corpus.path", "data")) if self.run else "data"

    def kept(self, name: str) -> bytes | None:
        """A file that the run kept, if it is the one whose digest the run noted."""
        content = self.files.get(name)
        noted = self.tags.get(f"source.{name}")
        return content if content is not None and hashlib.sha256(content).hexdigest() == noted else None


def _kept_files(version: ModelVersion) -> dict[str, bytes]:
    from mlflow.exceptions import MlflowException

    try:
        with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
            found = Path(store.client().download_artifacts(str(version.run_id), "source", temporary))
            return {path.name: path.read_bytes() for path in found.iterdir() if path.is_file()}
    except (MlflowException, OSError):
        # A run that was made again from a model's files kept nothing.
        return {}


def _kept_scores(case: _Case) -> Scored | None:
    return scores.kept(store.client(), case.version, case.version.tags.get(scores.KEY, ""))


def _metrics(case: _Case) -> dict[str, float]:
    """The scores that were judged; none where they are gone."""
    try:
        found = _kept_scores(case)
    except RegistryError:
        found = None
    return dict(entries.leaves(found.metrics)) if found else {}


# --- the steps ----------------------------------------------------------------------------------------------------------


def _link(what: str, value: str, holds: bool | None, note: str) -> Link:
    return Link(what, value, "unknown" if holds is None else "ok" if holds else "differs", note)


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
    value = ", ".join(f"{name} {number:g}" for name, number in scores.tagged(case.version).items())
    try:
        kept = _kept_scores(case)
    except ChangedScoresError as error:
        return _link("scores", value, False, str(error))
    except RegistryError as error:
        return _link("scores", value, None, str(error))
    if kept is None:
        return _link("scores", value, None, "the version keeps no scores by clip")
    wrong = [name for name, number in scores.tagged(case.version).items() if kept.value(name) != number]
    note = f"the scores by clip have another {', '.join(wrong)}" if wrong else "as in the scores by clip that were kept"
    return _link("scores", value, not wrong, f"{note}, test set {kept.test_set[:12]}")


def _commit(case: _Case) -> Link:
    commit = case.version.tags.get("git_commit", "")
    holds: bool | None = None
    if not commit:
        note = "trained outside git: cannot be reproduced"
    elif not git.has_commit(project.source() or Path.cwd(), commit):
        note = "not in this clone; git fetch may bring it"
    elif case.dirty is None:
        note = "in this clone; whether it had uncommitted changes is not known"
    elif not case.dirty:
        holds, note = True, "in this clone; nothing was uncommitted"
    elif provenance.PATCH not in case.files:
        note = "with uncommitted changes that were not kept: cannot be reproduced from the commit alone"
    elif case.kept(provenance.PATCH) is None:
        holds, note = False, f"source/{provenance.PATCH} of the run is not what it noted"
    else:
        left_out = case.tags.get(provenance.LEFT_OUT)
        holds, note = True, f"with uncommitted changes, kept with the run (source/{provenance.PATCH})"
        note += f"; without {left_out}" if left_out else ""
    return _link("commit", commit or "none", holds, note)


def _settings(case: _Case) -> Link:
    if case.run is None or provenance.SETTINGS not in case.files:
        return _link("settings", provenance.SETTINGS, None, "the run did not keep the file")
    content = case.kept(provenance.SETTINGS)
    if content is None:
        return _link("settings", provenance.SETTINGS, False, "the file that the run kept is not what it noted")
    if (flat := naming.flat(content)) is None:
        return _link("settings", provenance.SETTINGS, None, "this version of Overtone does not read the file")
    logged = dict(case.run.data.params) | {
        name.removeprefix("changed."): one for name, one in case.tags.items() if name.startswith("changed.")
    }
    wrong = [key for key, one in flat.items() if logged.get(entries.legal(key), entries.text(one)) != entries.text(one)]
    note = f"the run has another {', '.join(wrong[:5])}" if wrong else "the same settings as the run's"
    return _link("settings", provenance.SETTINGS, not wrong, note)


def _data(case: _Case) -> Link:
    noted, name = case.version.tags.get("data_digest", ""), dvc.pointer(case.corpus)
    if not noted:
        return _link("data", case.corpus, None, "DVC did not track the recordings: cannot be reproduced")
    found = dvc.pointed(case.kept(Path(name).name))
    note = f"the run did not keep {name}" if found is None else f"{name}, kept with the run, names {found}"
    return _link("data", f"{case.corpus}, md5 {noted}", None if found is None else found == noted, note)


def _corpus(case: _Case) -> Link:
    """What was read: shards, or the corpus by its manifest, which is another one if its stage was run by hand otherwise."""
    if url := case.tags.get("shards"):
        return _shards(url, case.tags.get("shards_digest", ""))
    noted = case.tags.get("corpus_manifest")
    if not noted:
        return _link("corpus", "stage corpus", None, "the run noted no manifest of it")
    locked = dvc.output(case.kept(dvc.LOCK), "corpus")
    named = dvc.listed(project.home() or Path.cwd(), locked, provenance.MANIFEST) if locked else None
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


_CHECKS = (_weights, _run, _scores, _commit, _settings, _data, _corpus)
