"""`overtone sync`: what trainings could not send, and the models' whole runs, brought to the store in use."""

from __future__ import annotations

from collections.abc import Iterable

from overtone.evaluation.report import read_metrics
from overtone.settings import FAMILIES, project
from overtone.tracking import evaluations, journal, store, transfer
from overtone.tracking.store import AwayError, TrackingError


def sync() -> None:
    """Bring journals and models' runs to the store: all that can be brought there.

    Raises:
        TrackingError: one could not; the others were.
    """
    left, kept = list[str](), journal.kept()
    for run_id in kept:
        try:
            count = journal.sync(run_id)
        except AwayError:
            raise
        except TrackingError as error:
            left.append(str(error))
            continue
        print(f"run {run_id}: {count} entries uploaded to {store.public_uri()}")
    trained = [family for family in FAMILIES if (project.MODELS / family / "run.json").is_file()]
    if not left:
        record_models(trained)
    if not kept and not trained:
        print("nothing to upload: every run is in its store")
    if left:
        raise TrackingError("; ".join(dict.fromkeys(left)))


def record_models(families: Iterable[str]) -> None:
    """See to it that the store in use has the whole runs of the models that lie here, with what they scored.

    Stages that DVC takes from its cache record nothing, and the store may be another one than theirs.
    """
    for family in families:
        folder, report = project.MODELS / family, project.report_folder(family)
        trained, run_id = str(transfer.read_run(folder)["run_id"]), transfer.open_run(folder)
        scored = (report / "metrics.json").is_file()
        if scored and not evaluations.is_logged(run_id, metrics := read_metrics(report)):
            evaluations.log(folder, metrics, report)
            evaluations.describe(run_id, {family: metrics}, family)
            if project.PAGE.is_file():
                evaluations.publish(project.PAGE, run_id)
        known = "" if run_id == trained else f", where it is run {run_id}"
        print(f"{family}: its run is whole in {store.public_uri()}{known}")
