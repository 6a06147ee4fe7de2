"""What an evaluation writes into MLflow: the scores of a system's run, its charts and description, the report's page.

A network's scores go to the run that trained it; a baseline has a run of its own, so that charts show it beside the networks.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from overtone.audio import replacing
from overtone.evaluation import table as comparison
from overtone.settings import project
from overtone.tracking import entries, git, naming, store, transfer

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Tag of a baseline's run: the digest of its report; written last.
DIGEST = "report_digest"
NOTE = "mlflow.note.content"
REPORT = "report"
# Section of MLflow's charts; before `test/` in the alphabet, which is their order.
CONDITIONS = "conditions"
# What is drawn over the conditions, as (kind, metric).
_DRAWN = (
    *(("all", metric) for metric in ("lsd", "lsd_hf", "lsd_lf", "si_sdr", "snr")),
    ("music", "lsd"),
    ("speech", "lsd"),
)
_HEAD = "**Scores on the test set**"


# --- scores -----------------------------------------------------------------------------------------------------------


def log(folder: Path, metrics: Mapping[str, Any], report: Path) -> str:
    """Add an evaluation to the run that trained the model.

    Args:
        folder: the model folder; its `run.json` names the run.
        metrics: the tree of `metrics.json`: group -> kind -> metric -> mean; entries that are not numbers are left out.
        report: the report folder (scores, `figures/`, `audio/`), kept as the run's artifacts under `evaluation`; its
            `summary.json` gets the id that `run.json` names, which `dvc exp show` has as a column then.

    Returns:
        The id of the run in use: that of `run.json`, or of its copy if this store never had it (see `transfer`).

    Raises:
        TrackingError: the model folder lacks a usable `run.json`, or the store lacks the experiment.
    """
    client = store.client()
    run_id = transfer.open_run(folder)
    summary = report / "summary.json"
    if summary.is_file():
        tree = json.loads(summary.read_text()) | {"run": transfer.read_run(folder)["run_id"]}
        with replacing(summary) as temporary:
            temporary.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n")
    _log_report(client, run_id, metrics, report)
    return run_id


def is_logged(run_id: str, metrics: Mapping[str, Any]) -> bool:
    """Whether a run holds an evaluation's figures."""
    data = store.client().get_run(run_id).data
    wanted = {entries.legal(f"test/{name}"): value for name, value in entries.leaves(metrics)}
    return all(data.metrics.get(name) == value for name, value in wanted.items() if math.isfinite(value))


def log_baseline(name: str, metrics: Mapping[str, Any], report: Path) -> str:
    """A baseline's scores as a run; the same report makes no second one.

    Args:
        name: of the baseline.
        metrics: the tree of `metrics.json`.
        report: the report's folder, kept as the run's artifacts under `evaluation`.

    Returns:
        The run's id.
    """
    client = store.client()
    digest = hashlib.sha256(b"".join((report / one).read_bytes() for one in ("metrics.json", "scores.csv"))).hexdigest()
    with store.lock("baselines"):
        experiment = store.experiment_id(client, os.environ.get(store.PARENT))
        wanted = {naming.KIND: "baseline", naming.SYSTEM: name, DIGEST: digest}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
        if known := client.search_runs([experiment], query, max_results=1):
            return str(known[0].info.run_id)
        root = project.source() or Path.cwd()
        commit = git.commit(root)
        tags = naming.tags(name, "baseline", "overtone stage evaluate --system baselines", commit)
        if commit:
            tags |= {"git_commit": commit, "git_dirty": str(git.dirty(root)).lower()}
        run_id = store.begin_run(client, name, tags)
        try:
            _log_report(client, run_id, metrics, report)
            client.set_tag(run_id, DIGEST, digest)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
        return run_id


def _log_report(client: MlflowClient, run_id: str, metrics: Mapping[str, Any], report: Path) -> None:
    """All figures under `test/`, and as `conditions/<metric>.<kind>` those that are worth a line over the conditions."""
    points = [(f"test/{key}", value, 0) for key, value in entries.leaves(metrics)]
    for step, condition in numbered(metrics).items():
        for kind, metric in _DRAWN:
            value = metrics[condition].get(kind, {}).get(metric)
            if value is not None:
                points.append((f"{CONDITIONS}/{metric}.{kind}", float(value), step))
    entries.log_metrics(client, run_id, points)
    client.log_artifacts(run_id, str(report), "evaluation")
    if test_set := metrics.get("test_set"):
        client.set_tag(run_id, "test_set", str(test_set))


# --- what MLflow's pages show -----------------------------------------------------------------------------------------


def describe(run_id: str, metrics_by_system: Mapping[str, Mapping[str, Any]], system: str) -> None:
    """Write the key table into a run's description; what a user wrote above it stays.

    Args:
        run_id: of the run.
        metrics_by_system: what is compared; of those only the ones on this system's test set are.
        system: whose run it is.
    """
    client = store.client()
    before = client.get_run(run_id).data.tags.get(NOTE, "").partition(_HEAD)[0].strip()
    own = metrics_by_system[system]
    others = {name: tree for name, tree in metrics_by_system.items() if tree.get("test_set") == own.get("test_set")}
    steps = ", ".join(f"{number} {name}" for number, name in numbered(own).items())
    parts = [
        *([before] if before else []),
        f"{_HEAD} of {system} and what it is compared with",
        # MLflow's page shows the first lines and hides the rest behind a click: the run's own comes first.
        comparison.key_table({system: own} | others),
        comparison.NOTE,
        f"Charts under `{CONDITIONS}`, by step: {steps}.",
    ]
    client.set_tag(run_id, NOTE, "\n\n".join(parts))


def numbered(metrics: Mapping[str, Any]) -> dict[int, str]:
    """The conditions by the step that stands for each."""
    return dict(enumerate(comparison.conditions({"": metrics}), 1))


def publish(page: Path, run_id: str) -> None:
    """Keep the report's page among a run's files as `report/index.html`, in place of an earlier one."""
    store.client().log_artifact(run_id, str(page), REPORT)


def address(run_id: str) -> str:
    """Where a run is shown; empty where the store is a database, which has no address of its own."""
    uri = store.public_uri()
    return f"{uri.rstrip('/')}/#/runs/{run_id}" if urlsplit(uri).scheme in ("http", "https") else ""


def name_of(run_id: str) -> str:
    """The name of a run."""
    return str(store.client().get_run(run_id).info.run_name or "")
