"""Baselines as runs of their own, so that MLflow's charts show them beside the networks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.settings import project
from overtone.tracking import entries, git, naming, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

REPORT = "report_digest"
BASELINE = "baseline"
_FILES = ("metrics.json", "scores.csv")


def log(name: str, metrics: Mapping[str, Any], report: Path) -> str:
    """A baseline's scores as a run; the same report makes no second one.

    Args:
        name: of the baseline.
        metrics: the tree of `metrics.json`.
        report: the report's folder, kept as the run's artifacts under `evaluation`.

    Returns:
        The run's id.
    """
    client = store.client()
    with store.lock("baselines"):
        known = find(name, report)
        if known:
            return known
        run_id = store.begin_run(client, name, _tags(name, metrics))
        try:
            entries.log_metrics(client, run_id, [(f"test/{key}", value, 0) for key, value in entries.leaves(metrics)])
            client.log_artifacts(run_id, str(report), "evaluation")
            # What marks the run as whole comes last.
            client.set_tag(run_id, REPORT, _digest(report))
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
        return run_id


def find(name: str, report: Path) -> str | None:
    """The run of a baseline's report, None where this store has none."""
    client: MlflowClient = store.client()
    experiment = store.experiment_id(client, os.environ.get(store.PARENT))
    wanted = {naming.KIND: BASELINE, naming.SYSTEM: name, REPORT: _digest(report)}
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
    found = client.search_runs([experiment], query, max_results=1)
    return str(found[0].info.run_id) if found else None


def _tags(name: str, metrics: Mapping[str, Any]) -> dict[str, str]:
    root = project.source() or Path.cwd()
    commit = git.commit(root)
    facts = {
        naming.KIND: BASELINE,
        naming.SYSTEM: name,
        "git_commit": commit,
        "git_dirty": str(git.dirty(root)).lower() if commit else None,
        "test_set": metrics.get("test_set"),
        "dvc_stage": os.environ.get("DVC_STAGE"),
        "dvc_exp_name": os.environ.get("DVC_EXP_NAME"),
        "mlflow.source.name": "overtone stage evaluate --system baselines",
        "mlflow.source.git.commit": commit,
    }
    return {key: str(value) for key, value in facts.items() if value}


def _digest(report: Path) -> str:
    return hashlib.sha256(b"".join((report / name).read_bytes() for name in _FILES)).hexdigest()
