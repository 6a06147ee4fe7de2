"""Which MLflow store this project writes to, opened safely, and what identifies its code and data."""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies

import yaml

from overtone.errors import OvertoneError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "overtone"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_NOISY = ("alembic", "mlflow.store", "mlflow.system_metrics", "mlflow.tracking", "mlflow.models", "mlflow.pyfunc")
_LOCK_SECONDS = 3600.0
# How long a server that is just being started again is waited for.
ANSWER_SECONDS = 10.0


class TrackingError(OvertoneError):
    """A store, experiment or run that cannot be used; the message names it and what was expected."""


def _git(*arguments: str) -> str | None:
    """The output of a git command in the working directory, None where there is no git or no such thing."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def repository_root() -> Path:
    """The project's root: `DVC_ROOT` inside a stage, else git's top level, else the working directory.

    DVC's own variable comes first because an experiment in a temporary copy must record in the project it belongs to.
    """
    if root := os.environ.get("DVC_ROOT"):
        return Path(root).resolve()
    return Path(_git("rev-parse", "--show-toplevel") or Path.cwd()).resolve()


def source_root() -> Path:
    """The root of the files in use: that of the copy in which DVC runs an experiment with `--temp` or `--queue`, else
    `repository_root`.
    """
    home = repository_root()
    here = Path.cwd().resolve()
    copies = home / ".dvc" / "tmp" / "exps"
    if copies not in here.parents:
        return home
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), home)


def in_copy() -> bool:
    """Whether this is a copy of the project that DVC made for an experiment and removes afterwards."""
    return source_root() != repository_root()


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else `mlflow.db` in the project's root; a relative SQLite path is taken from the root.

    A server's address is given without user and password: MLflow's errors and logs hold it. `client` keeps those aside.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or "sqlite:///mlflow.db"
    scheme, separator, path = uri.partition(":///")
    if separator and scheme.split("+")[0] == "sqlite" and path and not path.startswith(("/", ":memory:")):
        path, query, arguments = path.partition("?")
        return f"{scheme}:///{repository_root() / path}{query}{arguments}"
    return uri if _is_database(uri) else _without_user(uri)


def public_uri() -> str:
    """The tracking URI as files may hold it: no user or password, and a local database relative to the root."""
    uri = tracking_uri()
    if _is_database(uri, "sqlite"):
        scheme, _, path = uri.partition(":///")
        root = f"{repository_root()}{os.sep}"
        return f"{scheme}:///{path.removeprefix(root)}"
    return _without_user(urlsplit(uri)._replace(query="").geturl())


def _without_user(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def _keep_user() -> None:
    """Give a server's user and password, where the address holds them, to MLflow by its own variables."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri.startswith(("http://", "https://")):
        return
    user, _, password = urlsplit(uri).netloc.rpartition("@")[0].partition(":")
    if user and "MLFLOW_TRACKING_USERNAME" not in os.environ:
        os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = (
            unquote(user),
            unquote(password),
        )


def git_commit() -> str | None:
    """The commit checked out in the working directory; None outside git or before the first commit."""
    return _git("rev-parse", "--verify", "HEAD")


def git_dirty() -> bool:
    """Whether tracked files differ from the commit, those that the pipeline itself writes aside."""
    return bool(
        _git(
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ":/",
            ":(top,exclude)dvc.lock",
            ":(top,exclude)reports",
        )
    )


def data_digest(corpus: Path) -> str | None:
    """DVC's digest of the corpus folder.

    Args:
        corpus: the folder (`params.corpus.path`), or its `.dvc` file.

    Returns:
        The md5 in `<corpus>.dvc`; None where DVC does not track the folder.
    """
    pointer = corpus if corpus.suffix == ".dvc" else corpus.with_name(f"{corpus.name}.dvc")
    try:
        tree = yaml.safe_load(pointer.read_text())
        return str(tree["outs"][0]["md5"])
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        raise TrackingError(f"{pointer}: expected DVC's pointer file with outs[0].md5") from None


def exists() -> bool:
    """Whether there is a store already: a local database that nobody used yet is no file."""
    uri = tracking_uri()
    return not _is_database(uri, "sqlite") or Path(uri.partition(":///")[2].partition("?")[0]).is_file()


def _is_database(uri: str, *kinds: str) -> bool:
    return uri.partition(":")[0].split("+")[0] in (kinds or _DATABASES)


@contextmanager
def lock(purpose: str) -> Iterator[None]:
    """Keep other processes of this user on this machine out of the same work on the same store."""
    from filelock import FileLock

    key = hashlib.sha256(tracking_uri().encode()).hexdigest()[:16]
    with FileLock(
        Path(tempfile.gettempdir()) / f"overtone-{getpass.getuser()}-{key}-{purpose}.lock", timeout=_LOCK_SECONDS
    ):
        yield


def client() -> MlflowClient:
    """A client of the store, which becomes MLflow's current one; the first use of a database creates its tables."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    _keep_user()
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if not _is_database(uri):
        return mlflow.MlflowClient(uri, uri)
    # MLflow creates the tables without a lock: two first users would both try.
    with lock("open"):
        opened = mlflow.MlflowClient(uri, uri)
        opened.search_experiments(max_results=1)
    return opened


def require(seconds: float = ANSWER_SECONDS) -> None:
    """Make sure that the store's server takes connections, before MLflow's client tries for minutes.

    Raises:
        TrackingError: it does not within so many seconds.
    """
    uri = tracking_uri()
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname or getproxies().get(parts.scheme):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((parts.hostname, port), timeout=3.0).close()
        except OSError as error:
            if time.monotonic() + 0.5 > deadline:
                raise TrackingError(
                    f"{public_uri()}: does not answer ({error.strerror or error}); start the tracking server, or set "
                    "OVERTONE_OFFLINE=1 to train without it and `overtone sync` afterwards"
                ) from None
            time.sleep(0.5)
        else:
            return


def experiment_name() -> str:
    """What the user calls the experiment that new runs go to: `MLFLOW_EXPERIMENT_NAME`; empty where that is not set."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip()


def experiment_id(opened: MlflowClient, parent_run: str | None = None, name: str | None = None) -> str:
    """The experiment that new runs go to, made if need be.

    Args:
        parent_run: the run that they are beneath.
        name: of the experiment; `experiment_name()` when not given. Where it is empty, the parent run's (the UI nests only
            within one experiment), else "overtone".

    Raises:
        TrackingError: the experiment was deleted, or the parent run is unknown.
    """
    from mlflow.exceptions import MlflowException

    name = experiment_name() if name is None else name
    if parent_run and not name:
        try:
            return str(opened.get_run(parent_run).info.experiment_id)
        except MlflowException:
            raise TrackingError(f"OVERTONE_PARENT_RUN_ID: {public_uri()} has no run {parent_run!r}") from None
    name = name or EXPERIMENT
    found = opened.get_experiment_by_name(name)
    if found is None:
        try:
            return str(opened.create_experiment(name, artifact_location=_artifacts(name)))
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


def _artifacts(experiment: str) -> str | None:
    """Where a new experiment's files go: beside a database in the root's `mlruns`, on a server where that says."""
    if not _is_database(tracking_uri()):
        return None
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in experiment)
    return (repository_root() / "mlruns" / safe).as_uri()
