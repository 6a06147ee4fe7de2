"""The steps from a registered version back to its source, each checked against its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from overtone.data.shards import Place, read_index
from overtone.errors import OvertoneError
from overtone.registry import decisions, packaging, scores
from overtone.registry.origin import Case
from overtone.registry.versions import RegistryError
from overtone.tracking import dvc, entries, git, provenance, runs, store, transfer
from overtone.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow.entities import Run

State = Literal["ok", "differs", "unknown"]


@dataclass(frozen=True)
class Link:
    """One step back: what it is, its value, whether it could be checked and held, and how or why not."""

    what: str
    value: str
    state: State
    note: str


def check(case: Case) -> Iterator[Link]:
    """All links, the version first."""
    for one in (_version, _logged_model, _weights, _run, _scores, _commit, _settings, _data, _made, _shards, _lock):
        yield from one(case)


def _version(case: Case) -> Iterator[Link]:
    version, name = case.version, case.version.name
    aliases = case.client.get_registered_model(name).aliases
    mine = ", ".join(sorted(alias for alias, number in aliases.items() if str(number) == str(version.version)))
    value = f"models:/{name}/{version.version}{f' ({mine})' if mine else ''}"
    yield Link("version", value, "ok", version.tags.get("decision", "not judged"))


def _logged_model(case: Case) -> Iterator[Link]:
    from mlflow.exceptions import MlflowException

    model_id = str(case.version.source or "").removeprefix("models:/")
    try:
        made_by = case.client.get_logged_model(model_id).source_run_id
    except MlflowException as error:
        yield Link("logged model", model_id, "unknown", f"the store does not have it: {error.message}")
        return
    same = made_by == case.version.run_id
    yield Link("logged model", model_id, "ok" if same else "differs", f"of run {made_by}")


def _weights(case: Case) -> Iterator[Link]:
    noted = case.version.tags.get("weights_sha256", "")
    if case.folder is None:
        yield Link("weights", f"sha256 {noted[:16]}", "unknown", case.fault)
        return
    found = _sha256((case.folder / packaging.WEIGHTS).read_bytes())
    if not noted:
        yield Link("weights", f"sha256 {found[:16]}", "unknown", "the version notes no digest")
    elif found == noted:
        yield Link("weights", f"sha256 {noted[:16]}", "ok", "the registered file has this digest")
    else:
        yield Link("weights", f"sha256 {noted[:16]}", "differs", f"the registered file has {found[:16]}")


def _run(case: Case) -> Iterator[Link]:
    value = f"{case.version.run_id or 'none'} in {store.public_uri()}"
    if case.run is None:
        yield Link("run", value, "unknown", "the store does not have it (any more)")
        return
    experiment = case.client.get_experiment(case.run.info.experiment_id).name
    value = f"{case.run.info.run_name} ({case.run.info.run_id}), experiment {experiment} in {store.public_uri()}"
    wrong = [
        f"{name} is {tags[name]} by {who}, {noted} by the version"
        for name, noted in case.version.tags.items()
        for who, tags in (("the run", case.run_tags), ("run.json", _run_json(case)))
        if name in ("git_commit", "data_digest", "model") and tags.get(name, noted) != noted
    ]
    trained = _run_json(case).get("run_id", case.version.tags.get("origin_run_id"))
    if trained != case.version.tags.get("origin_run_id"):
        wrong.append(f"the files are of run {trained}")
    if wrong:
        yield Link("run", value, "differs", "; ".join(wrong))
    elif transfer.RESTORED in case.run_tags:
        yield Link("run", value, "unknown", f"made again from the files of run {trained}, of another store")
    else:
        yield Link("run", value, "ok", f"{case.run.info.status}; names the same commit, data and model")


def _run_json(case: Case) -> dict[str, str]:
    """The registered `run.json`, its facts named as the tags are."""
    if case.folder is None:
        return {}
    try:
        facts = transfer.read_run(case.folder)
    except TrackingError:
        return {"run_id": "none"}
    return {{"commit": "git_commit"}.get(name, name): str(fact) for name, fact in facts.items() if fact}


def _scores(case: Case) -> Iterator[Link]:
    tags = case.version.tags
    test_set, key = tags.get("test_set", ""), tags.get(scores.KEY, "")
    value = ", ".join(f"{name} {number:g}" for name, number in decisions.scores(case.version).items())
    try:
        kept = scores.kept(case.client, case.version, key)
    except RegistryError as error:
        yield Link("scores", value, "differs" if "other scores" in str(error) else "unknown", str(error))
        return
    if kept is None:
        yield Link("scores", value, "unknown", "the version keeps no scores by clip")
        return
    noted = decisions.scores(case.version)
    wrong = [name for name, number in noted.items() if kept.value(name) != number]
    place = scores.folder(case.version, key)
    if case.run is not None and case.run_tags.get("test_set") == test_set:
        logged = case.run.data.metrics
        for name, number in entries.leaves(kept.metrics):
            if abs(logged.get(entries.legal(f"test/{name}"), number) - number) > 1e-9:
                wrong.append(f"test/{name} of the run")
    if wrong:
        yield Link("scores", value, "differs", f"{len(wrong)} not as in {place}, such as {wrong[0]}")
    else:
        yield Link("scores", value, "ok", f"as in {place}, test set {test_set[:12]}")


def _commit(case: Case) -> Iterator[Link]:
    if not case.commit:
        yield Link("commit", "none", "unknown", "trained outside git: cannot be reproduced")
    elif not case.has_commit():
        yield Link("commit", case.commit, "unknown", "not in this clone; git fetch may bring it")
    elif case.dirty is None:
        yield Link("commit", case.commit, "unknown", "in this clone; whether it had uncommitted changes is not known")
    elif not case.dirty:
        yield Link("commit", case.commit, "ok", "in this clone; nothing was uncommitted")
    elif provenance.PATCH not in case.files:
        note = "with uncommitted changes that were not kept: cannot be reproduced from the commit alone"
        yield Link("commit", case.commit, "unknown", note)
    elif not case.is_kept(provenance.PATCH):
        yield Link("commit", case.commit, "differs", f"source/{provenance.PATCH} of the run is not what it noted")
    else:
        note = f"with uncommitted changes, kept with the run (source/{provenance.PATCH}): not reproduced by the commit alone"
        if left_out := case.run_tags.get(provenance.LEFT_OUT):
            note += f"; without {left_out}"
        yield Link("commit", case.commit, "ok", note)


def _settings(case: Case) -> Iterator[Link]:
    content, where = case.used(provenance.SETTINGS)
    noted = case.run_tags.get(f"source.{provenance.SETTINGS}", "")
    if content is None or case.run is None:
        yield Link("settings", provenance.SETTINGS, "unknown", "neither the commit nor the run has the file")
        return
    value = f"{provenance.SETTINGS}, sha256 {_sha256(content)[:16]}"
    if noted and _sha256(content) != noted:
        yield Link("settings", value, "differs", f"{where}; the run was made with sha256 {noted[:16]}")
        return
    if transfer.RESTORED in case.run_tags:
        yield Link("settings", value, "unknown", "the run was made again from the model's files, without all settings")
        return
    wrong = list(_disagreements(dvc.tree(content), case.run, case.version.tags.get("model", "")))
    if wrong:
        yield Link("settings", value, "differs", f"{where}; the run has another {', '.join(wrong[:5])}")
    else:
        yield Link("settings", value, "ok", f"{where}; the same settings as the run's")


def _disagreements(settings: Mapping[str, Any], run: Run, model: str) -> Iterator[str]:
    """The keys of a params.yaml that the run logged otherwise. Defaults may have been filled in; they are no difference."""
    for key, value in _flat(settings):
        if key.startswith(runs.foreign(model)):
            continue
        name = entries.legal(key)
        logged = run.data.tags.get(f"changed.{name}", run.data.params.get(name))
        if logged is None or not (entries.text(value) == logged or _covers(_plain(logged), value)):
            yield key


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _covers(logged: Any, value: Any) -> bool:
    """Whether a logged value is this one, save for keys that it has beyond it."""
    if isinstance(value, Mapping) and isinstance(logged, Mapping):
        return all(key in logged and _covers(logged[key], one) for key, one in value.items())
    if isinstance(value, list) and isinstance(logged, list):
        return len(value) == len(logged) and all(_covers(a, b) for a, b in zip(logged, value, strict=True))
    return bool(logged == value)


def _data(case: Case) -> Iterator[Link]:
    noted, name = case.version.tags.get("data_digest", ""), dvc.pointer(case.corpus)
    if not noted:
        yield Link("data", case.corpus, "unknown", "DVC did not track the recordings: cannot be reproduced")
        return
    content, where = case.used(name)
    found = dvc.pointed(content)
    value = f"{case.corpus}, md5 {noted}"
    if found is None:
        yield Link("data", value, "unknown", f"neither the commit nor the run has {name}")
    else:
        yield Link("data", value, "ok" if found == noted else "differs", f"{name} {where} names {found}")


def _made(case: Case) -> Iterator[Link]:
    """The corpus, by the manifest that was read.

    A stage that was run by hand, with other settings or from other recordings, makes another manifest than `dvc.lock` names.
    """
    noted = case.run_tags.get("corpus_manifest")
    if not noted:
        if not case.run_tags.get("shards"):
            yield Link("corpus", "stage corpus", "unknown", "the run noted no manifest of it")
        return
    value = f"{provenance.MANIFEST}, md5 {noted}"
    locked = dvc.output(case.files.get(dvc.LOCK) if case.is_kept(dvc.LOCK) else None, "corpus")
    named = dvc.listed(case.home, locked, provenance.MANIFEST) if locked else None
    here = case.root / "work" / "corpus" / provenance.MANIFEST
    if named is not None:
        same = named == noted
        note = f"dvc.lock, as it was at the beginning of the run, names {'it' if same else 'another'} ({locked})"
        yield Link("corpus", value, "ok" if same else "differs", note)
    elif here.is_file() and dvc.file_md5(here) == noted:
        yield Link("corpus", value, "ok", "what lies here now; not named by a dvc.lock whose files are in this cache")
    else:
        yield Link("corpus", value, "unknown", "neither dvc.lock nor what lies here names it")


def _shards(case: Case) -> Iterator[Link]:
    """What was read in place of the project's own corpus, if anything was."""
    url, noted = case.run_tags.get("shards"), case.run_tags.get("shards_digest", "")
    if not url:
        return
    value = f"{url}, sha256 {noted[:16]}"
    try:
        found = read_index(Place(url)).digest
    except OvertoneError as error:
        yield Link("shards", value, "unknown", str(error))
        return
    same = found == noted
    note = (
        "read in place of the corpus; the index there has this digest" if same else f"the index there has {found[:16]}"
    )
    yield Link("shards", value, "ok" if same else "differs", note)


def _lock(case: Case) -> Iterator[Link]:
    """The model folder, which DVC's lock names by the digest of its files."""
    if case.folder is None:
        yield Link("dvc.lock", "model folder", "unknown", case.fault)
        return
    names = [name for name in (*packaging.REQUIRED, *packaging.OPTIONAL) if (case.folder / name).is_file()]
    md5 = dvc.folder_md5({name: dvc.file_md5(case.folder / name) for name in names})
    yield _named(case, "dvc.lock", f"train@{case.version.tags.get('model', '')}", md5)


def _named(case: Case, what: str, stage: str, md5: str) -> Link:
    """Which dvc.lock names this output: mostly a later commit's, since the lock is committed after the run."""
    value = f"{stage} -> md5 {md5}"
    if dvc.output(case.committed(dvc.LOCK), stage) == md5:
        return Link(what, value, "ok", f"named by dvc.lock in commit {case.commit[:7]}")
    later = git.run(case.root, "log", "--all", "--format=%H", f"-S{md5}", "--", dvc.LOCK)
    for commit in reversed((later or b"").decode().split()):
        if dvc.output(git.at(case.root, commit, dvc.LOCK), stage) == md5:
            return Link(what, value, "ok", f"named by dvc.lock in commit {commit[:7]}, made after the run")
    here = case.root / dvc.LOCK
    if here.is_file() and dvc.output(here.read_bytes(), stage) == md5:
        return Link(what, value, "ok", "named by dvc.lock as it lies here; not committed")
    return Link(what, value, "unknown", "no dvc.lock in this clone names it: it was not committed")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
