"""The MLflow store, opened safely: its client, its locks, and the experiment that runs go to."""

from __future__ import annotations

import getpass
import logging
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from overtone.settings import project
from overtone.tracking import relocation, server
from overtone.tracking.address import (
    TrackingError,
    database_file,
    exists,
    is_database,
    keep_user,
    public_uri,
    tracking_uri,
)
from overtone.tracking.server import AwayError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["AwayError", "TrackingError", "client", "exists", "experiment_id", "lock", "public_uri", "tracking_uri"]

EXPERIMENT = "overtone"
# By this MLflow's page shows runs, models and charts of trainings first, not those of language models.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
# The run that new ones are beneath: `mlflow run` and studies set it.
PARENT = "OVERTONE_PARENT_RUN_ID"
_NOISY = ("alembic", "mlflow.store", "mlflow.system_metrics", "mlflow.tracking", "mlflow.models", "mlflow.pyfunc")
# How long another process may keep a lock: judging a champion anew takes minutes.
LOCK_SECONDS = 1800.0
_SILENT_SECONDS = 5.0
# The lock of those that make a database's tables, which takes ten seconds and is no news.
_OPEN = "open"


@contextmanager
def lock(purpose: str) -> Iterator[None]:
    """Keep the other processes of this machine out of the same work on the same store, whoever their users are.

    The lock is a file beside a local database. For a server it is in the project's folder, so that it keeps the processes of
    one clone apart; over several machines MLflow has no lock.

    Raises:
        TrackingError: another process holds it for longer than any work should take.
    """
    from filelock import FileLock, Timeout

    if (path := _lock_file(purpose)) is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path, mode=0o666)
    try:
        try:
            held.acquire(timeout=min(_SILENT_SECONDS, LOCK_SECONDS))
        except Timeout:
            if purpose != _OPEN:
                print(f"waiting for another process that holds {path}", file=sys.stderr, flush=True)
            held.acquire(timeout=max(0.0, LOCK_SECONDS - _SILENT_SECONDS))
    except Timeout:
        raise TrackingError(
            f"{path}: another process has held this lock for {LOCK_SECONDS:g} s; wait until it has ended, or end it, and "
            "try again"
        ) from None
    try:
        yield
    finally:
        held.release()


def _lock_file(purpose: str) -> Path | None:
    if (database := database_file()) is not None:
        return database.with_name(f"{database.name}.{purpose}.lock")
    home = project.home()
    return home / ".overtone" / "locks" / f"{purpose}.lock" if home is not None else None


def client() -> MlflowClient:
    """A client of the store, which becomes MLflow's current one; the first use of a database creates its tables.

    Raises:
        AwayError: the store's server does not answer.
        TrackingError: `MLFLOW_TRACKING_URI` names no store that can be used.
    """
    uri = tracking_uri()
    server.require()
    name_user()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name, value in server.BOUNDS.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    keep_user()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if (database := database_file()) is None:
        return mlflow.MlflowClient(uri, uri)
    # MLflow creates the tables without a lock: two first users would both try.
    with nullcontext() if _has_tables(database) else lock(_OPEN), _no_stray_folder(database):
        opened = mlflow.MlflowClient(uri, uri)
        opened.search_experiments(max_results=1)
        if quote(str(database)) != str(database):
            # The registry is opened by itself, and makes such a folder too.
            opened.search_registered_models(max_results=1)
    if (home := project.home()) is not None and database.is_relative_to(home):
        relocation.relocate(database, home)
    return opened


def _has_tables(database: Path) -> bool:
    """Whether MLflow has finished making its tables: it writes down the schema's version last."""
    if not database.is_file():
        return False
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
        try:
            return bool(connection.execute("select count(*) from alembic_version").fetchone()[0])
        finally:
            connection.close()
    return False


@contextmanager
def _no_stray_folder(database: Path) -> Iterator[None]:
    """Remove the empty folder that MLflow makes for a database whose path needs quoting, under the quoted name."""
    quoted = Path(quote(str(database))).parent
    made = [folder for folder in (quoted, *quoted.parents) if not folder.exists()]
    yield
    for folder in made:
        with suppress(OSError):
            folder.rmdir()


def name_user() -> None:
    """Give a user without a name, as in a container, one: Python and MLflow fail without."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"


def user() -> str:
    """The name of who runs this process."""
    name_user()
    return getpass.getuser()


def experiment_id(opened: MlflowClient, parent_run: str | None = None) -> str:
    """The experiment that new runs go to, made if need be.

    It is the one that `MLFLOW_EXPERIMENT_NAME` names; where that is not set, the parent run's (the UI nests only within one
    experiment), else "overtone".

    Args:
        parent_run: the run that they are beneath.

    Raises:
        TrackingError: the experiment was deleted, or the parent run is unknown.
    """
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip()
    if parent_run and not name:
        try:
            return str(opened.get_run(parent_run).info.experiment_id)
        except MlflowException:
            raise TrackingError(f"{PARENT}: {public_uri()} has no run {parent_run!r}") from None
    name = name or EXPERIMENT
    found = opened.get_experiment_by_name(name)
    if found is None:
        try:
            return str(opened.create_experiment(name, _artifacts(name), _EXPERIMENT_TAGS))
        except MlflowException as error:
            # Another process was quicker.
            found = opened.get_experiment_by_name(name)
            if found is None:
                raise TrackingError(f"experiment {name!r} cannot be made in {public_uri()}: {error.message}") from None
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"experiment {name!r} was deleted in {public_uri()}; restore it with `mlflow experiments restore "
            f"-x {found.experiment_id}` or set MLFLOW_EXPERIMENT_NAME"
        )
    return str(found.experiment_id)


def begin_run(opened: MlflowClient, name: str, tags: Mapping[str, str] | None = None, parent: str | None = None) -> str:
    """The id of a new run, beneath a parent run where one is given or `OVERTONE_PARENT_RUN_ID` names one.

    Raises:
        TrackingError: as `experiment_id`.
    """
    parent = parent or os.environ.get(PARENT)
    nested = {"mlflow.parentRunId": parent} if parent else {}
    made = opened.create_run(experiment_id(opened, parent), run_name=name, tags={**(tags or {}), **nested})
    return str(made.info.run_id)


def _artifacts(experiment: str) -> str | None:
    """Where a new experiment's files go: beside a local database in `mlruns`, with a server where that says."""
    if not is_database(tracking_uri()):
        return None
    database, home = database_file(), project.home()
    own = home is not None and (database is None or database.is_relative_to(home))
    folder = home if own or database is None else database.parent
    return ((folder or Path.cwd()) / "mlruns" / relocation.folder_name(experiment)).as_uri()
