"""Which MLflow store is used: a server or database named by `MLFLOW_TRACKING_URI`, else the project's own `mlflow.db`."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from overtone.errors import OvertoneError
from overtone.settings import project

VARIABLE = "MLFLOW_TRACKING_URI"
DATABASE = "mlflow.db"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http", "https")


class TrackingError(OvertoneError):
    """A store, experiment or run that cannot be used; the message names it and what was expected."""


def tracking_uri() -> str:
    """The store's URI; a relative SQLite path is taken from the project's root.

    A server's address is given without user and password, since MLflow's errors and logs hold it; `keep_user` keeps those.

    Raises:
        TrackingError: the variable names a kind of store that cannot be used.
        NoProjectError: there is neither a project nor a variable.
    """
    uri = os.environ.get(VARIABLE, "").strip()
    if not uri:
        return sqlite_uri(project.root() / DATABASE)
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme.split("+")[0] not in (*_DATABASES, *_SERVERS):
        raise TrackingError(
            f"{VARIABLE}: {uri!r} is no store that Overtone can use; expected http://HOST:PORT or https://HOST of a tracking "
            f"server, sqlite:///FILE or postgresql://USER@HOST/NAME, or no such variable for the project's own {DATABASE} "
            "(folders of files are a kind of store that MLflow 3 has given up)"
        )
    return absolute(uri) if is_database(uri) else _without_user(uri)


def absolute(uri: str) -> str:
    """A database's URI, the path of an SQLite file taken from the project's root."""
    scheme, _, rest = uri.partition("://")
    path, query, arguments = rest.removeprefix("/").partition("?")
    if is_database(uri, "sqlite") and rest.startswith("/") and not path.startswith(("/", ":memory:")) and path:
        return f"{scheme}:///{quote(str(project.root() / unquote(path)))}{query}{arguments}"
    return uri


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite file."""
    # SQLAlchemy reads %20, ? and # in a path as parts of an address.
    return f"sqlite:///{quote(str(path))}"


def database_file(uri: str | None = None) -> Path | None:
    """The file of an SQLite database, the store's if no other is given; None for any other."""
    uri = tracking_uri() if uri is None else uri
    path = uri.partition(":///")[2].partition("?")[0]
    return Path(unquote(path)) if is_database(uri, "sqlite") and path.startswith("/") else None


def is_database(uri: str, *kinds: str) -> bool:
    """Whether a store is a database that is opened directly, of one of the kinds if some are given."""
    return uri.partition(":")[0].split("+")[0] in (kinds or _DATABASES)


def public_uri(uri: str | None = None) -> str:
    """The store's or a database's URI as files may hold it: no user or password, a local path relative to the project."""
    uri, home = tracking_uri() if uri is None else uri, project.home()
    if (file := database_file(uri)) is not None:
        shown = file.relative_to(home) if home is not None and file.is_relative_to(home) else file
        return f"{uri.partition(':///')[0]}:///{shown}"
    return _without_user(urlsplit(uri)._replace(query="").geturl())


def exists() -> bool:
    """Whether there is a store: a local database that nobody used yet is no file, and outside a project there is none."""
    if not os.environ.get(VARIABLE, "").strip() and project.home() is None:
        return False
    file = database_file()
    return file is None or file.is_file()


def host() -> tuple[str, int] | None:
    """Host and port that a store on a server listens on; None for a local database and where the address names none."""
    parts = urlsplit(tracking_uri())
    ports = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
    kind = parts.scheme.split("+")[0]
    return (parts.hostname, parts.port or ports[kind]) if parts.hostname and kind in ports else None


def keep_user() -> None:
    """Give a server's user and password, where the address holds them, to MLflow by its own variables."""
    uri = os.environ.get(VARIABLE, "").strip()
    if not uri.startswith(("http://", "https://")):
        return
    user, _, password = urlsplit(uri).netloc.rpartition("@")[0].partition(":")
    if user and "MLFLOW_TRACKING_USERNAME" not in os.environ:
        os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = (
            unquote(user),
            unquote(password),
        )


def _without_user(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri
