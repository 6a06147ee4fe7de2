"""The model registry: versions that lead back to run, commit and data, a gate before the champion, and a way back."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.params import RegisterParams
from overtone.registry import card, decisions, gate, packaging, scores, statistics, versions
from overtone.registry.decisions import WITHDRAWN, Decision
from overtone.registry.fetch import FILES, fetch
from overtone.registry.gate import Comparison
from overtone.registry.scores import Scored
from overtone.registry.versions import RegistryError
from overtone.tracking import store, transfer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

Rescore = Callable[[Path], Scored]
# Metrics are rounded to 6 decimals, and so are the scores that they are means of.
_ROUNDING = 1e-4
# Settings that no verdict depends on.
_UNJUDGED = {"on_champion", "on_champion_seconds"}


@dataclass(frozen=True)
class Candidate:
    """A model folder, what it scored, and its card in Markdown, which becomes the version's description."""

    folder: Path
    scored: Scored
    card: str = ""


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


def register(
    candidates: Sequence[Candidate], params: RegisterParams, rescore: Rescore | None = None, seed: int = 0
) -> Decision:
    """Make the best candidate a registered version and challenger, and champion if it passes the gate.

    A version of the same weights and run is never made twice, nor judged twice on the same figures; a version that was
    taken back by `rollback` is not promoted again except by `promote`.

    Args:
        candidates: evaluated model folders.
        params: registered name, main metric, what it must show, guards.
        rescore: model folder -> scores on the candidates' test set; called when the champion's are not known. Without it
            such a champion stays.
        seed: of the bootstrap.

    Raises:
        RegistryError: no candidate has the main metric, its scores by clip are of another evaluation, or a model folder is
            incomplete.
        TrackingError: the store cannot be used.
    """
    best = _best(candidates, params)
    client = store.client()
    _ensure_model(client, params.name)
    with store.lock("registry"):
        version, created = _ensure_version(client, best, params)
        registered = client.get_registered_model(params.name)
        if str(registered.aliases.get(versions.CHALLENGER)) != str(version.version):
            client.set_registered_model_alias(params.name, versions.CHALLENGER, str(version.version))
        if best.card and version.description != best.card:
            client.update_model_version(params.name, version.version, best.card)
        decision = _judge(client, version, created, best.scored, params, rescore, seed)
        card.show_champion(client, params.name)
        return decision


def _best(candidates: Sequence[Candidate], params: RegisterParams) -> Candidate:
    best: Candidate | None = None
    for candidate in candidates:
        score = gate.value(candidate.scored.metrics, params.metric)
        if score is None:
            continue
        held = gate.value(best.scored.metrics, params.metric) if best else None
        if held is None or gate.better(score, held, params):
            best = candidate
    if best is None:
        folders = ", ".join(str(candidate.folder) for candidate in candidates) or "none"
        raise RegistryError(
            f"register: no candidate has a finite {params.metric!r} among its metrics (folders: {folders})"
        )
    reported, counted = gate.value(best.scored.metrics, params.metric), statistics.mean(best.scored.rows, params.metric)
    if reported is not None and counted is not None and abs(reported - counted) > _ROUNDING:
        raise RegistryError(
            f"{best.folder}: {params.metric} is {reported:g} in metrics.json and {counted:g} by scores.csv; expected "
            "both of one evaluation (dvc repro)"
        )
    return best


def _ensure_version(client: MlflowClient, best: Candidate, params: RegisterParams) -> tuple[ModelVersion, bool]:
    """The version of the candidate's weights and run, and whether it was made just now."""
    info = transfer.read_run(best.folder)
    digest = _weights_digest(best.folder)
    for version in versions.listed(client, params.name):
        if version.tags.get("weights_sha256") == digest and version.tags.get("origin_run_id") == info["run_id"]:
            return version, False
    run_id = transfer.open_run(best.folder)
    facts = {
        "weights_sha256": digest,
        "origin_run_id": info["run_id"],
        "run_id": run_id,
        "model": info.get("model"),
        "git_commit": info.get("commit"),
        "data_digest": info.get("data_digest"),
        "test_set": best.scored.test_set,
    }
    figures = gate.scores(best.scored.metrics, params)
    tags = {name: str(fact) for name, fact in facts.items() if fact} | decisions.score_tags(figures)
    logged = packaging.log(client, best.folder, run_id)
    tags[FILES] = json.dumps(logged.digests)
    version = client.create_model_version(
        params.name,
        f"models:/{logged.model_id}",
        run_id,
        tags=tags,
        description=f"{info.get('model', 'model')} of run {run_id}",
        model_id=logged.model_id,
    )
    return version, True


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _judge(
    client: MlflowClient,
    version: ModelVersion,
    created: bool,
    scored: Scored,
    params: RegisterParams,
    rescore: Rescore | None,
    seed: int,
) -> Decision:
    """Decide about the candidate's version unless that was done on the same figures, and write the decision on it."""
    registered = client.get_registered_model(params.name)
    number, champion = int(version.version), versions.champion(registered)
    figures = gate.scores(scored.metrics, params)
    settings = params.model_dump(mode="json", exclude=_UNJUDGED)
    question = hashlib.sha256(json.dumps([figures, scored.digest, settings, seed], sort_keys=True).encode()).hexdigest()
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
        comparisons, passed, reason = _against(client, champion, scored, params, rescore, seed)
        judged = True
    record = {}
    if judged:
        scores.keep(client, version, scored)
        tags = decisions.score_tags(figures) | {"test_set": scored.test_set}
        versions.write(client, params.name, number, tags)
        version = client.get_model_version(params.name, str(number))
        if passed:
            versions.make_champion(client, registered, number)
        facts = {"test_set": scored.test_set, "settings": params.model_dump(mode="json"), "seed": seed}
        record = decisions.write(client, registered, version, "register", passed, reason, comparisons, **facts)
        versions.write(client, params.name, number, {"judged": question})
    after = number if passed else champion
    score, model = figures[params.metric], version.tags.get("model", "")
    return Decision(
        params.name, number, model, score, created, judged, passed, after, champion, comparisons, reason, record
    )


def _against(
    client: MlflowClient, champion: int, scored: Scored, params: RegisterParams, rescore: Rescore | None, seed: int
) -> tuple[tuple[Comparison, ...], bool, str]:
    """The candidate against the champion's scores on the candidate's test set, measured afresh where they are not known."""
    from mlflow.exceptions import MlflowException

    from overtone.models.folder import ModelError

    version = client.get_model_version(params.name, str(champion))
    figures = gate.scores(scored.metrics, params)
    try:
        held = scores.kept(client, version, scored.test_set)
    except RegistryError:
        held = None
    if held is None or any(metric not in gate.scores(held.metrics, params) for metric in figures):
        if rescore is None:
            where = scored.test_set[:12] or "without digest"
            return (), False, f"champion {champion} has no scores by clip on test set {where}: not comparable"
        with tempfile.TemporaryDirectory(prefix="overtone-") as cache:
            try:
                held = rescore(fetch(params.name, str(champion), Path(cache)))
            except ModelError as error:
                why = str(error).replace(cache, "").partition(": ")[2]
                return (
                    (),
                    False,
                    f"champion {champion} cannot be run by this code ({why}): not comparable, promote by hand",
                )
        # A champion may outlive its run; it is scored again the next time.
        with suppress(MlflowException, OSError):
            scores.keep(client, version, held)
    comparisons = gate.compare(figures, gate.scores(held.metrics, params), params, scored.rows, held.rows, seed)
    return comparisons, *gate.verdict(comparisons)


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
    versions.resolve(client, name, reference)
    with store.lock("registry"):
        version = versions.resolve(client, name, reference)
        registered = client.get_registered_model(name)
        number, champion = int(version.version), versions.champion(registered)
        if number == champion:
            return _by_hand(version, False, champion, champion, "is the champion already")
        versions.make_champion(client, registered, number)
        if WITHDRAWN in version.tags:
            client.delete_model_version_tag(name, version.version, WITHDRAWN)
        card.show_champion(client, name)
        record = decisions.write(client, registered, version, "promote", True, "by hand")
        return _by_hand(version, True, number, champion, "by hand", record)


def rollback(name: str) -> Decision:
    """Give the champion's place back to the champion before; can be repeated back to the first.

    The version that loses the place is tagged `withdrawn`: `register` does not promote it again.

    Raises:
        RegistryError: no such model, no champion, or none before it.
    """
    client = store.client()
    versions.resolve(client, name, versions.CHAMPION)
    with store.lock("registry"):
        champion = int(versions.resolve(client, name, versions.CHAMPION).version)
        present = {int(one.version) for one in versions.listed(client, name)}
        registered = client.get_registered_model(name)
        history = versions.history(registered)
        while history and (history[-1] not in present or history[-1] == champion):
            history.pop()
        if not history:
            raise RegistryError(f"{name}: champion {champion} is the first; there is no champion to go back to")
        target = history.pop()
        versions.set_champion(client, name, target, history)
        withdrawn = {WITHDRAWN: versions.now(), "decision": f"taken back: by hand, for version {target}"}
        versions.write(client, name, champion, withdrawn)
        card.show_champion(client, name)
        version, reason = versions.resolve(client, name, target), f"by rollback from version {champion}"
        record = decisions.write(client, registered, version, "rollback", True, reason, withdrawn=champion)
        versions.write(client, name, champion, {"decision_number": str(record["number"])})
        return _by_hand(version, True, target, champion, f"rollback from version {champion}", record)


def _by_hand(
    version: ModelVersion,
    promoted: bool,
    champion: int | None,
    previous: int | None,
    reason: str,
    record: Mapping[str, Any] | None = None,
) -> Decision:
    number, model = int(version.version), version.tags.get("model", "")
    return Decision(
        version.name, number, model, None, False, False, promoted, champion, previous, (), reason, record or {}
    )


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
            scores=decisions.scores(version),
            decision=version.tags.get("decision", ""),
        )
        for version in found
    ]


def has_champion(name: str) -> bool:
    """Whether the registry holds a champion of this name; a registry that refuses to say is an error."""
    from mlflow.exceptions import MlflowException

    try:
        store.client().get_model_version_by_alias(name, versions.CHAMPION)
    except MlflowException as error:
        # The second is MLflow's word for an alias that a model lacks.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return False
        raise
    return True


def _weights_digest(folder: Path) -> str:
    path = folder / packaging.WEIGHTS
    if not path.is_file():
        raise RegistryError(f"{path}: no such file; expected a model folder with {packaging.WEIGHTS} and config.json")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
