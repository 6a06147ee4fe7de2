"""The model registry: versions that lead back to run, commit and data, a gate before the champion, and a way back."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.audio import replacing
from overtone.params import RegisterParams
from overtone.tracking import gate, packaging, runs, store, versions
from overtone.tracking.gate import Comparison
from overtone.tracking.versions import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

WITHDRAWN = "withdrawn"

Rescore = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class Candidate:
    """A model folder and its `metrics.json` tree."""

    folder: Path
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """What happened to a version and why.

    `created`: it is new in the registry. `judged`: the gate looked at it now, not on an earlier call. `champion` and
    `previous` are the champion's version after and before; `comparisons` the figures, main metric first.
    """

    name: str
    version: int
    model: str
    score: float | None
    created: bool
    judged: bool
    promoted: bool
    champion: int | None
    previous: int | None
    comparisons: tuple[Comparison, ...]
    reason: str


@dataclass(frozen=True)
class ModelRow:
    """One version as a table shows it. `scores`: the gate's metrics on `test_set`; `decision`: the last word on it."""

    version: int
    aliases: tuple[str, ...]
    model: str
    created: datetime
    run_id: str
    commit: str
    data_digest: str
    test_set: str
    scores: Mapping[str, float]
    decision: str


# --- the gate's stage -------------------------------------------------------------------------------------------------


def register(candidates: Sequence[Candidate], params: RegisterParams, rescore: Rescore | None = None) -> Decision:
    """Make the best candidate a registered version and challenger, and champion if it passes the gate.

    A version of the same weights and run is never made twice, nor judged twice on the same figures; a version that was
    taken back by `rollback` is not promoted again except by `promote`.

    Args:
        candidates: evaluated model folders.
        params: registered name, main metric and guards.
        rescore: model folder -> metrics tree on the candidates' test set; called when the champion was scored on another
            one. Without it such a champion stays.

    Raises:
        RegistryError: no candidate has the main metric, or a model folder is incomplete.
        TrackingError: the store cannot be used.
    """
    best = _best(candidates, params)
    client = store.client()
    with store.lock("registry"):
        version, created = _ensure_version(client, best, params)
        registered = client.get_registered_model(params.name)
        if registered.aliases.get(versions.CHALLENGER) != str(version.version):
            client.set_registered_model_alias(params.name, versions.CHALLENGER, str(version.version))
        return _judge(client, registered, version, created, best, params, rescore)


def _best(candidates: Sequence[Candidate], params: RegisterParams) -> Candidate:
    best: Candidate | None = None
    for candidate in candidates:
        score = gate.value(candidate.metrics, params.metric)
        if score is None:
            continue
        held = gate.value(best.metrics, params.metric) if best else None
        if held is None or gate.better(score, held, params):
            best = candidate
    if best is None:
        folders = ", ".join(str(candidate.folder) for candidate in candidates) or "none"
        raise RegistryError(
            f"register: no candidate has a finite {params.metric!r} among its metrics (folders: {folders})"
        )
    return best


def _ensure_version(client: MlflowClient, best: Candidate, params: RegisterParams) -> tuple[ModelVersion, bool]:
    """The version of the candidate's weights and run, and whether it was made just now."""
    info = runs.read_run(best.folder)
    digest = _weights_digest(best.folder)
    for version in versions.listed(client, params.name):
        if version.tags.get("weights_sha256") == digest and version.tags.get("origin_run_id") == info["run_id"]:
            return version, False
    run_id = runs.open_run(best.folder)
    facts = {
        "weights_sha256": digest,
        "origin_run_id": info["run_id"],
        "run_id": run_id,
        "model": info.get("model"),
        "git_commit": info.get("commit"),
        "data_digest": info.get("data_digest"),
        "test_set": best.metrics.get("test_set"),
    }
    tags = {name: str(fact) for name, fact in facts.items() if fact} | _score_tags(gate.scores(best.metrics, params))
    _ensure_model(client, params.name)
    model_id = packaging.log(client, best.folder, run_id)
    version = client.create_model_version(
        params.name,
        f"models:/{model_id}",
        run_id,
        tags=tags,
        description=f"{info.get('model', 'model')} of run {run_id}",
        model_id=model_id,
    )
    return version, True


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Audio super-resolution: encoded audio in, 48 kHz audio out.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _score_tags(scores: gate.Scores) -> dict[str, str]:
    return {f"score.{metric}": repr(number) for metric, number in scores.items()}


def _scores(version: ModelVersion) -> dict[str, float]:
    marked = {name.removeprefix("score."): text for name, text in version.tags.items() if name.startswith("score.")}
    return {metric: float(text) for metric, text in marked.items()}


def _judge(
    client: MlflowClient,
    registered: RegisteredModel,
    version: ModelVersion,
    created: bool,
    best: Candidate,
    params: RegisterParams,
    rescore: Rescore | None,
) -> Decision:
    """Decide about the candidate's version unless that was done on the same figures, and write the decision on it."""
    number, champion = int(version.version), versions.champion(registered)
    scores = gate.scores(best.metrics, params)
    question = hashlib.sha256(
        json.dumps([scores, best.metrics.get("test_set"), params.model_dump(mode="json")], sort_keys=True).encode()
    ).hexdigest()
    comparisons: tuple[Comparison, ...] = ()
    judged = False
    if champion is not None and version.tags.get("judged") == question:
        passed, reason = False, f"nothing new since it was {version.tags.get('decision', 'judged')}"
    elif champion == number:
        passed, reason, judged = False, "is the champion already", True
    elif WITHDRAWN in version.tags:
        passed, reason = False, f"was taken back on {version.tags[WITHDRAWN]}; only promote brings it back"
    elif champion is None:
        passed, reason, judged = True, "first champion: there was none to beat", True
    else:
        comparisons, passed, reason = _against(client, champion, best, scores, params, rescore)
        judged = True
    if judged:
        if passed:
            versions.crown(client, registered, number)
        tags = _score_tags(scores) | {"judged": question, "test_set": str(best.metrics.get("test_set") or "")}
        versions.write(client, params.name, number, tags | _verdict_tags(passed, reason, comparisons, champion))
    after = number if passed else champion
    score = scores[params.metric]
    model = version.tags.get("model", "")
    return Decision(params.name, number, model, score, created, judged, passed, after, champion, comparisons, reason)


def _against(
    client: MlflowClient,
    champion: int,
    best: Candidate,
    scores: gate.Scores,
    params: RegisterParams,
    rescore: Rescore | None,
) -> tuple[tuple[Comparison, ...], bool, str]:
    """The candidate against the champion's scores on the candidate's test set, measured afresh where they are not known."""
    version = client.get_model_version(params.name, str(champion))
    test_set = str(best.metrics.get("test_set") or "")
    held = _scores(version)
    known = version.tags.get("test_set", "") == test_set and params.metric in held
    known = known and all(metric in held for metric in scores)
    again = f"rescored.{test_set[:16]}"
    if not known and again in version.tags:
        held = json.loads(version.tags[again])
        known = all(metric in held for metric in scores)
    if not known:
        if rescore is None:
            reason = (
                f"champion {champion} has no scores on test set {test_set[:12] or 'without digest'}: not comparable"
            )
            return (), False, reason
        with tempfile.TemporaryDirectory(prefix="overtone-") as cache:
            held = gate.scores(rescore(fetch(params.name, str(champion), Path(cache))), params)
        client.set_model_version_tag(params.name, str(champion), again, json.dumps(held))
    comparisons = gate.compare(scores, held, params)
    return comparisons, *gate.verdict(comparisons)


def _verdict_tags(passed: bool, reason: str, comparisons: Sequence[Comparison], champion: int | None) -> dict[str, str]:
    """A decision as tags: the sentence, and each comparison with its figures."""
    tags = {"decision": f"{'promoted' if passed else 'not promoted'}: {reason}", "decided": versions.now()}
    if champion is not None:
        tags["decided_against"] = str(champion)
    return tags | {f"gate.{one.metric}": f"{'passed' if one.passed else 'failed'}: {one}" for one in comparisons}


# --- by hand ----------------------------------------------------------------------------------------------------------


def promote(name: str, reference: str | int) -> Decision:
    """Make a version champion whatever the gate says; the champion before it stays reachable by `rollback`.

    Args:
        name: registered model.
        reference: version number or alias.

    Raises:
        RegistryError: no such model, version or alias.
    """
    client = store.client()
    with store.lock("registry"):
        version = versions.resolve(client, name, reference)
        registered = client.get_registered_model(name)
        number, champion = int(version.version), versions.champion(registered)
        if number == champion:
            return _by_hand(version, False, champion, champion, "is the champion already")
        versions.crown(client, registered, number)
        if WITHDRAWN in version.tags:
            client.delete_model_version_tag(name, version.version, WITHDRAWN)
        versions.write(client, name, number, _verdict_tags(True, "by hand", (), champion))
        return _by_hand(version, True, number, champion, "by hand")


def rollback(name: str) -> Decision:
    """Give the champion's place back to the champion before; can be repeated back to the first.

    The version that loses the place is tagged `withdrawn`: `register` does not promote it again.

    Raises:
        RegistryError: no such model, no champion, or none before it.
    """
    client = store.client()
    with store.lock("registry"):
        version = versions.resolve(client, name, versions.CHAMPION)
        present = {int(one.version) for one in versions.listed(client, name)}
        champion = int(version.version)
        history = versions.history(client.get_registered_model(name))
        while history and (history[-1] not in present or history[-1] == champion):
            history.pop()
        if not history:
            raise RegistryError(f"{name}: champion {champion} is the first; there is no champion to go back to")
        target = history.pop()
        versions.set_champion(client, name, target, history)
        versions.write(
            client,
            name,
            champion,
            {WITHDRAWN: versions.now(), "decision": f"taken back: by hand, for version {target}"},
        )
        versions.write(
            client,
            name,
            target,
            {"decision": f"promoted: by rollback from version {champion}", "decided": versions.now()},
        )
        return _by_hand(
            versions.resolve(client, name, target), True, target, champion, f"rollback from version {champion}"
        )


def _by_hand(
    version: ModelVersion, promoted: bool, champion: int | None, previous: int | None, reason: str
) -> Decision:
    number, model = int(version.version), version.tags.get("model", "")
    return Decision(version.name, number, model, None, False, False, promoted, champion, previous, (), reason)


def models(name: str) -> list[ModelRow]:
    """All versions, the newest first; none if nothing was registered under this name yet."""
    client = store.client()
    found = sorted(versions.listed(client, name), key=lambda version: -int(version.version))
    if not found:
        return []
    aliases = client.get_registered_model(name).aliases
    return [
        ModelRow(
            version=int(version.version),
            aliases=tuple(sorted(alias for alias, number in aliases.items() if str(number) == str(version.version))),
            model=version.tags.get("model", ""),
            created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            run_id=version.run_id or "",
            commit=version.tags.get("git_commit", ""),
            data_digest=version.tags.get("data_digest", ""),
            test_set=version.tags.get("test_set", ""),
            scores=_scores(version),
            decision=version.tags.get("decision", ""),
        )
        for version in found
    ]


def has_champion(name: str) -> bool:
    """Whether the registry holds a champion of this name."""
    from mlflow.exceptions import MlflowException

    try:
        store.client().get_model_version_by_alias(name, versions.CHAMPION)
    except MlflowException:
        return False
    return True


def fetch(name: str, reference: str | int, cache: Path) -> Path:
    """A local model folder of a registered version, its weights checked against the digest in the registry.

    Args:
        name: registered model.
        reference: "champion", "challenger", another alias, or a version number.
        cache: where model folders are kept; a version already there and intact is not downloaded again.

    Returns:
        A folder with `weights.safetensors`, `config.json` and `run.json`.

    Raises:
        RegistryError: no such version, its files cannot be had, or the weights are not those that were registered.
    """
    client = store.client()
    version = versions.resolve(client, name, reference)
    digest = version.tags.get("weights_sha256", "")
    if not digest:
        raise RegistryError(f"{name} version {version.version}: has no tag weights_sha256; it was not made by register")
    folder = cache / f"{name}-{version.version}-{digest[:12]}"
    if folder.is_dir() and _is_intact(folder, digest):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as temporary:
        downloaded = packaging.download(version, Path(temporary))
        if not _is_intact(downloaded, digest):
            raise RegistryError(
                f"{name} version {version.version}: the stored weights are not those that were registered "
                f"(expected sha256 {digest[:12]}...); refused"
            )
        folder.mkdir(exist_ok=True)
        # The weights come last: a folder with intact weights is complete.
        for path in sorted(downloaded.iterdir(), key=lambda path: path.name == packaging.WEIGHTS):
            with replacing(folder / path.name) as target:
                shutil.copyfile(path, target)
    return folder


def _weights_digest(folder: Path) -> str:
    path = folder / packaging.WEIGHTS
    if not path.is_file():
        raise RegistryError(f"{path}: no such file; expected a model folder with {packaging.WEIGHTS} and config.json")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_intact(folder: Path, digest: str) -> bool:
    return (folder / packaging.WEIGHTS).is_file() and _weights_digest(folder) == digest
