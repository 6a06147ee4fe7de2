"""What MLflow's pages say in words: the description of a run and of the experiment, and the report among a run's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from overtone.evaluation import table as comparison
from overtone.tracking import naming, scoreboard, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = "mlflow.note.content"
REPORT = "report"
_HEAD = "**Scores on the test set**"
# By this MLflow's page shows runs, models and charts of trainings first, not those of language models.
_EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")
_EXPERIMENT = f"""\
Audio super-resolution: one run for each training, trial, study and baseline.

- **Charts**: under `{scoreboard.CONDITIONS}` each system is a line over the test conditions (the step is the condition's \
number, named in each run's description), under `{scoreboard.SCORES}` a bar; `test` holds every figure.
- **Filter**: `tags.\\`{naming.SYSTEM}\\` = 'rnn'`, `tags.\\`{naming.KIND}\\` = 'training'` (or trial, study, baseline), \
`tags.git_dirty = 'false'`, `tags.dvc_exp_name = 'NAME'`.
- **Listen**: each run's artifacts under `evaluation`; all systems beside each other in `{REPORT}/index.html`.
"""


def describe(run_id: str, metrics_by_system: Mapping[str, Mapping[str, Any]], system: str) -> None:
    """Write the key table into a run's description; what a user wrote above it stays.

    Args:
        run_id: of the run.
        metrics_by_system: what is compared; of those only the ones on this system's test set are.
        system: whose run it is.
    """
    client = store.client()
    run = client.get_run(run_id)
    before = run.data.tags.get(NOTE, "").partition(_HEAD)[0].strip()
    own = metrics_by_system[system]
    others = {name: tree for name, tree in metrics_by_system.items() if tree.get("test_set") == own.get("test_set")}
    # MLflow's page shows the first lines and hides the rest behind a click: the run's own comes first.
    alike = {system: own} | others
    steps = ", ".join(f"{number} {name}" for number, name in scoreboard.numbered(own).items())
    parts = [
        *([before] if before else []),
        f"{_HEAD} of {system} and what it is compared with",
        comparison.key_table(alike),
        comparison.NOTE,
        f"Charts under `{scoreboard.CONDITIONS}`, by step: {steps}.",
    ]
    client.set_tag(run_id, NOTE, "\n\n".join(parts))
    _introduce(client, str(run.info.experiment_id))


def _introduce(client: MlflowClient, experiment: str) -> None:
    """Say in the experiment what it holds, unless somebody described it already."""
    found = client.get_experiment(experiment).tags
    for key, value in (_EXPERIMENT_KIND, (NOTE, _EXPERIMENT)):
        if key not in found:
            client.set_experiment_tag(experiment, key, value)


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
