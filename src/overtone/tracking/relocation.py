"""A project that was moved, renamed, copied or mounted elsewhere: its own database names its files where they are now.

MLflow keeps absolute paths. Left as they are, the next run would make the old folder again, or write into the original of a
copy.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Columns of MLflow's tables that hold where files are.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
_LOCATION = re.compile(r"(?P<base>.*)/mlruns/(?P<name>[^/]+)")


def folder_name(experiment: str) -> str:
    """The folder of an experiment's files in `mlruns`."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in experiment)


def relocate(database: Path, root: Path) -> None:
    """Let a project's database name its files below the project's root.

    Args:
        database: SQLite file inside the project, with MLflow's tables.
        root: of the project.
    """
    with closing(sqlite3.connect(database, timeout=60.0)) as connection:
        if not _elsewhere(connection, root):
            return
        connection.execute("begin immediate")
        found = _elsewhere(connection, root)
        for base in found:
            new = root.as_uri() if base.startswith("file:") else str(root)
            for table, column in _COLUMNS:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                    (f"{new}/mlruns/", len(base) + len("/mlruns/") + 1, len(base) + len("/mlruns/"), f"{base}/mlruns/"),
                )
        connection.commit()
    # MLflow's own first experiment is named for the folder where the database was made, which may be a subfolder.
    if before := sorted(_path(base) for base, experiments in found.items() if experiments != {"0"}):
        print(f"{root}: the project was at {', '.join(before)} before; its store is here now", file=sys.stderr)


def _elsewhere(connection: sqlite3.Connection, root: Path) -> dict[str, set[str]]:
    """How locations elsewhere begin -> the experiments there whose folder is named as this project and MLflow name them."""
    bases: dict[str, set[str]] = {}
    for number, name, location in connection.execute("select experiment_id, name, artifact_location from experiments"):
        found = _LOCATION.fullmatch(location or "")
        if found and found["name"] in (str(number), folder_name(name)) and Path(_path(found["base"])) != root:
            bases.setdefault(found["base"], set()).add(str(number))
    return bases


def _path(base: str) -> str:
    return unquote(urlsplit(base).path) if base.startswith("file:") else base
