"""A model's whole run in the store that is used now: found, uploaded, copied from another store, or made of its files."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.settings import project
from overtone.tracking import entries, journal, naming, provenance, relocation, store
from overtone.tracking.address import DATABASE, is_database, sqlite_uri
from overtone.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Tag of a run that was made of a model folder's files: it lacks what they do not hold; written last.
RESTORED = "overtone.restored"
# The id that a run goes by in the store where it was made.
RESTORED_FROM = "overtone.restored_from"
# Tag of a run that was copied: which store it was copied from; written last.
COPIED_FROM = "overtone.copied_from"
_DIGEST_LENGTH = 36
# Of a run whose copy belongs to another parent and user, by MLflow's own tags.
_LEFT = ("mlflow.parentRunId", "mlflow.user", "mlflow.log-model.history", "mlflow.loggedArtifacts")


def read_run(folder: Path) -> dict[str, Any]:
    """A model folder's `run.json`.

    Raises:
        TrackingError: it is missing, or is not an object with a `run_id`.
    """
    path = folder / "run.json"
    try:
        info = json.loads(path.read_text())
    except FileNotFoundError:
        raise TrackingError(f"{path}: no such file; expected the model folder of a finished training") from None
    except ValueError as error:
        raise TrackingError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(info, dict) or not isinstance(info.get("run_id"), str) or not info["run_id"]:
        raise TrackingError(f"{path}: expected an object with a run_id")
    return info


def open_run(folder: Path) -> str:
    """The run of a model folder in this store, whole as far as it can be had.

    What its training could not send is sent first (see `tracking.journal`). A run that this store lacks is copied from the
    store where it was made, if that is at hand, with its settings, curves, tags and files; otherwise it is made of the
    folder's files and tagged `overtone.restored`. Neither is done twice; what was interrupted is done again.

    Returns:
        The run's id in this store.

    Raises:
        TrackingError: the folder has no usable `run.json`, or its run is kept locally and cannot be sent now.
    """
    info = read_run(folder)
    run_id = str(info["run_id"])
    if run_id in journal.kept():
        journal.sync(run_id)
    client = store.client()
    if entries.exists(client, run_id):
        return run_id
    with store.lock("restore"):
        known, source = find(client, run_id), _elsewhere(info)
        if known:
            tags = client.get_run(known).data.tags
            if COPIED_FROM in tags or (RESTORED in tags and source is None):
                return known
            client.delete_run(known)
        return _copy(source, client, run_id) if source else _restore(client, folder, info)


def find(client: MlflowClient, run_id: str) -> str | None:
    """A run's id in this store: its own, or that of the run that was made for it here; None where there is neither."""
    if entries.exists(client, run_id):
        return run_id
    experiments = [str(one.experiment_id) for one in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{RESTORED_FROM}` = '{entries.legal(run_id)}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


# --- copied from another store ------------------------------------------------------------------------------------------


def _elsewhere(info: Mapping[str, Any]) -> MlflowClient | None:
    """A client of the store where a run was made, if that is a database of this project and has the run."""
    from mlflow import MlflowClient

    home, uri = project.home(), str(info.get("tracking_uri") or "")
    if home is None or not is_database(uri, "sqlite") or uri == store.public_uri():
        return None
    file = home / (uri.partition(":///")[2] or DATABASE)
    if not file.is_file():
        return None
    relocation.relocate(file, home)
    address = sqlite_uri(file)
    client = MlflowClient(address, address)
    return client if entries.exists(client, str(info["run_id"])) else None


def _copy(source: MlflowClient, client: MlflowClient, run_id: str) -> str:
    """Copy a run from one store to another.

    Returns:
        Its id in the other store.
    """
    run = source.get_run(run_id)
    made = client.create_run(
        store.experiment_id(client),
        start_time=run.info.start_time,
        run_name=run.info.run_name,
        tags={RESTORED_FROM: entries.legal(run_id)},
    )
    known = str(made.info.run_id)
    entries.log_params(client, known, dict(run.data.params), {})
    for name in run.data.metrics:
        for batch in entries.batches(source.get_metric_history(run_id, name), entries.METRICS_PER_BATCH):
            client.log_batch(known, metrics=batch)
    if run.inputs:
        client.log_inputs(known, run.inputs.dataset_inputs)
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        for item in source.list_artifacts(run_id):
            source.download_artifacts(run_id, item.path, folder)
        client.log_artifacts(known, folder)
    entries.log_tags(client, known, {name: text for name, text in run.data.tags.items() if name not in _LEFT})
    client.set_terminated(known, run.info.status, run.info.end_time)
    client.set_tag(known, COPIED_FROM, "another store of this project")
    return known


# --- made of the files --------------------------------------------------------------------------------------------------


def _restore(client: MlflowClient, folder: Path, info: Mapping[str, Any]) -> str:
    model = str(info.get("model", "model"))
    facts = {"model": model, naming.SYSTEM: model, naming.KIND: "training", **provenance.tags_of(info)}
    tags = {RESTORED_FROM: entries.legal(str(info["run_id"])), **facts}
    run = client.create_run(store.experiment_id(client), run_name=f"{model} restored", tags=tags)
    run_id = str(run.info.run_id)
    settings = info.get("settings") or {}
    entries.log_params(client, run_id, {entries.legal(k): entries.text(v) for k, v in settings.items()}, {})
    entries.log_metrics(client, run_id, list(_curve(folder / "history.csv")))
    entries.log_dataset(client, run_id, dataset(info, str(settings.get("corpus.path", "data"))))
    client.set_terminated(run_id, "FINISHED")
    client.set_tag(run_id, RESTORED, "true")
    return run_id


def dataset(facts: Mapping[str, Any], corpus: str) -> dict[str, Any]:
    """Name, digest and tags of what a training reads, as `run.json` says.

    Args:
        corpus: name of the folder of recordings.
    """
    if url := facts.get("shards"):
        digest = str(facts.get("shards_digest") or "")
        name, tags = str(url).rstrip("/").rpartition("/")[2], {"shards": str(url), "sha256": digest}
    else:
        name, digest = Path(corpus).name or "corpus", str(facts.get("data_digest") or "")
        tags = {"dvc": f"{name}.dvc", "md5": digest} if digest else {"folder": name}
        if corpus_manifest := facts.get("corpus_manifest"):
            tags["corpus_manifest"] = str(corpus_manifest)
    return {"name": name, "digest": digest[:_DIGEST_LENGTH] or None, "tags": tags}


def _curve(history: Path) -> Iterator[tuple[str, float, int]]:
    """The points of a training's `history.csv`: every numeric column over its `step` (else `epoch`, else the row)."""
    if not history.is_file():
        return
    with history.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            step = int(float(row.get("step") or row.get("epoch") or number))
            for name, text in row.items():
                if name == "step" or not text:
                    continue
                try:
                    yield name, float(text), step
                except ValueError:
                    continue
