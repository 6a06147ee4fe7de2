"""The stage `register`: the best candidate becomes a version, is judged, and becomes champion if it passes the gate."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.registry import card, decisions, gate, packaging, scores, versions
from overtone.registry.decisions import WITHDRAWN, Decision
from overtone.registry.fetch import fetch
from overtone.registry.gate import Comparison
from overtone.registry.scores import Scored
from overtone.registry.versions import RegistryError
from overtone.settings import RegisterParams, project
from overtone.tracking import git, store, transfer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

Rescore = Callable[[Path], Scored]
# Settings that no verdict depends on.
_UNJUDGED = {"on_champion", "on_champion_seconds"}
# Tags: of a version, the verdict on a question; of the registered model, how often a test set was asked.
_VERDICT = "verdict"
_ASKED = "asked"


@dataclass(frozen=True)
class Candidate:
    """A model folder, what it scored, and its card in Markdown, which becomes the version's description."""

    folder: Path
    scored: Scored
    card: str = ""


def register(
    candidates: Sequence[Candidate],
    params: RegisterParams,
    rescore: Rescore | None = None,
    baselines: Mapping[str, Scored] | None = None,
) -> Decision:
    """Make the best candidate a registered version and challenger, and champion if it passes the gate.

    A version of the same weights and run is never made twice. A verdict holds for the candidate, the champion, the test set,
    the metrics' code and the gate's settings: the same question is not judged twice, and any other is judged anew. A version
    that was taken back by `rollback` is not promoted again except by `promote`.

    Args:
        candidates: evaluated model folders.
        params: registered name, main metric, what it must show, guards.
        rescore: model folder -> scores on the candidates' test set; called when the champion's are not known. Without it
            such a champion stays.
        baselines: by name, what they scored; the first champion must beat each.

    Raises:
        RegistryError: a metric of the gate does not exist, or a model folder is incomplete; or another process has changed
            the champion meanwhile.
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
        case = _Case(client, version, _held_back(best.folder, params), best.scored, params, rescore, baselines or {})
        decision = _judge(case, created)
        card.show_champion(client, params.name)
        return decision


@dataclass(frozen=True)
class _Case:
    """What a verdict rests on; `held_back` says why `register.promote` forbids to promote, empty where it does not."""

    client: MlflowClient
    version: ModelVersion
    held_back: str
    scored: Scored
    params: RegisterParams
    rescore: Rescore | None
    baselines: Mapping[str, Scored]

    def question(self, champion: ModelVersion | None) -> str:
        """Names what is asked: the same candidate, champion, test set, code and settings have one verdict."""
        against = (
            champion.tags.get("weights_sha256", str(champion.version))
            if champion
            else sorted((name, one.digest) for name, one in self.baselines.items())
        )
        settings = self.params.model_dump(mode="json", exclude=_UNJUDGED)
        asked = [self.version.tags.get("weights_sha256"), self.scored.key, self.scored.digest, against, settings]
        return hashlib.sha256(json.dumps([*asked, self.held_back], sort_keys=True).encode()).hexdigest()


def _best(candidates: Sequence[Candidate], params: RegisterParams) -> Candidate:
    known = [one for one in candidates if one.scored.value(params.metric) is not None]
    if not known:
        folders = ", ".join(str(candidate.folder) for candidate in candidates) or "none"
        raise RegistryError(
            f"register: no candidate has a finite {params.metric!r} among its metrics (folders: {folders})"
        )
    sign = 1.0 if params.better == "lower" else -1.0
    best = min(known, key=lambda one: sign * one.scored[params.metric])
    gate.require(best.scored, params, str(best.folder))
    return best


def _ensure_version(client: MlflowClient, best: Candidate, params: RegisterParams) -> tuple[ModelVersion, bool]:
    """The version of the candidate's weights and run, and whether it was made just now."""
    info = transfer.read_run(best.folder)
    if (digest := packaging.digested(best.folder).get(packaging.WEIGHTS)) is None:
        raise RegistryError(
            f"{best.folder / packaging.WEIGHTS}: no such file; expected a model folder with {packaging.WEIGHTS} and config.json"
        )
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
    logged = packaging.log(client, best.folder, run_id)
    tags = {name: str(fact) for name, fact in facts.items() if fact}
    tags |= scores.tags(gate.figures(best.scored, params)) | {packaging.FILES: json.dumps(logged.digests)}
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


def _held_back(folder: Path, params: RegisterParams) -> str:
    """Why `register.promote` forbids to promote a model now; empty if it does not."""
    if params.promote == "never":
        return "register.promote is never"
    if params.promote == "auto":
        return ""
    root = project.source() or Path.cwd()
    if git.commit(root) is None or git.dirty(root):
        return "register.promote is clean-tree, and this folder has uncommitted changes"
    if transfer.read_run(folder).get("dirty") is not False:
        return "register.promote is clean-tree, and the model was trained with uncommitted changes"
    return ""


def _judge(case: _Case, created: bool) -> Decision:
    """Decide about the candidate's version unless that was done on the same question, and write the decision on it."""
    client, version, params = case.client, case.version, case.params
    registered = client.get_registered_model(params.name)
    number, champion = int(version.version), versions.champion(registered)
    holder = client.get_model_version(params.name, str(champion)) if champion is not None else None
    tag = f"{_VERDICT}.{case.question(holder)[:16]}"
    if settled := _settled(case, holder, version.tags.get(tag)):
        return Decision.none(version, champion, settled, created)
    comparisons, passed, reason = _verdict(case, holder)
    facts: dict[str, Any] = {"test_set": case.scored.test_set, "settings": params.model_dump(mode="json")}
    if comparisons:
        facts["asked"] = _count_question(client, registered, case.scored.test_set)
        reason += f" (verdict {facts['asked']} on this test set)"
    if passed and case.held_back:
        passed = False
        reason = f"passes the gate, and {case.held_back}: {reason}; `overtone promote {number}` does it"
    _note_scores(case)
    if passed:
        versions.make_champion(client, registered, number)
    decision = decisions.write(client, registered, version, "register", passed, reason, comparisons, facts)
    versions.write(client, params.name, number, {tag: decisions.sentence(passed, reason)})
    return replace(decision, created=created)


def _settled(case: _Case, holder: ModelVersion | None, known: str | None) -> str:
    """Why there is nothing to judge; empty where there is.

    Args:
        holder: the champion.
        known: the verdict on the same question.
    """
    if holder is not None and str(holder.version) == str(case.version.version):
        # Its figures are those of today's test set and code from now on.
        _note_scores(case)
        return "is the champion already"
    if known is not None and not (holder is None and known.startswith("promoted")):
        return f"nothing new since it was {known}"
    if WITHDRAWN in case.version.tags:
        return f"was taken back on {case.version.tags[WITHDRAWN]}; only promote brings it back"
    return ""


def _note_scores(case: _Case) -> None:
    """Keep the candidate's scores with its version."""
    if not scores.is_kept(case.version, case.scored):
        tags = scores.tags(gate.figures(case.scored, case.params)) | {"test_set": case.scored.test_set}
        versions.write(case.client, case.params.name, int(case.version.version), tags)
        scores.keep(case.client, case.version, case.scored)


def _count_question(client: MlflowClient, registered: RegisteredModel, test_set: str) -> int:
    """Which verdict this is on a test set: the more often one is asked, the more of its luck is in the answers."""
    tag = f"{_ASKED}.{test_set[:16] or 'unnamed'}"
    count = int(registered.tags.get(tag, "0")) + 1
    client.set_registered_model_tag(registered.name, tag, str(count))
    return count


def _verdict(case: _Case, champion: ModelVersion | None) -> tuple[tuple[Comparison, ...], bool, str]:
    """The gate's verdict on the candidate against the champion, or against the baselines where there is none."""
    if champion is None:
        comparisons = gate.compare_baselines(case.scored, case.baselines, case.params)
        if not comparisons:
            return (), True, "first champion: there was none to beat"
        passed, reason = gate.verdict(comparisons)
        return comparisons, passed, f"{'first champion' if passed else 'no champion yet'}: {reason}"
    held, why = _scores_of(case, champion)
    if held is None:
        return (), False, f"champion {champion.version} {why}"
    comparisons = gate.compare(case.scored, held, case.params)
    return comparisons, *gate.verdict(comparisons)


def _scores_of(case: _Case, champion: ModelVersion) -> tuple[Scored | None, str]:
    """The champion's scores by the candidate's test set and code, measured afresh where they are not known.

    Returns:
        The scores, or None and why there are none.
    """
    from mlflow.exceptions import MlflowException

    from overtone.models.folder import ModelError

    try:
        held = scores.kept(case.client, champion, case.scored.key, case.scored.code)
    except RegistryError:
        held = None
    if held is not None and all(held.value(path) is not None for path in gate.metrics(case.params)):
        return held, ""
    if case.rescore is None:
        where = case.scored.test_set[:12] or "without digest"
        return None, f"has no scores by clip on test set {where}: not comparable"
    with tempfile.TemporaryDirectory(prefix="overtone-") as cache:
        try:
            held = case.rescore(fetch(champion.name, str(champion.version), Path(cache)))
        except ModelError as error:
            why = str(error).replace(cache, "").rpartition(": ")[2]
            return None, f"cannot be run by this code ({why}): not comparable, promote by hand"
    # A champion may outlive its run; it is scored again the next time.
    with suppress(MlflowException, OSError):
        scores.keep(case.client, champion, held)
    return held, ""
