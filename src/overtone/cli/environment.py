"""What every command sees to first: the project's `.env`, which copy of the code is run, and runs whose process is gone."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from overtone.cli.app import app
from overtone.errors import OvertoneError

FILE = ".env"
# What the project and its stores look at; a file for other programs too changes nothing else here.
TAKEN = ("MLFLOW_", "OVERTONE_", "AWS_")
# Commands that show or change what runs are, and so end those that were killed.
_LOOKING = {"stage", "tune", "sync", "models", "summary", "lineage", "ui"}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"overtone {version('overtone')}")
        raise typer.Exit


@app.callback()
def prepare(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the variables of the project's `.env`; in a copy that DVC made for an experiment, run that copy's code."""
    from overtone.settings import project

    load()
    if project.in_copy():
        _run_code_of(project.source_root())
    if context.invoked_subcommand in _LOOKING:
        _end_orphans()


def load() -> None:
    """Take the variables of the project's `.env` that are not set.

    DVC runs queued experiments in whatever environment its worker was started in, so a tracking server that only the
    shell knows is lost on the way.
    """
    from overtone.settings import project

    home = project.home()
    if home is None or not (home / FILE).is_file():
        return
    from dotenv import dotenv_values

    try:
        values = dotenv_values(home / FILE, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise OvertoneError(f"{home / FILE}: not text in UTF-8; save it in that encoding") from None
    for name, value in values.items():
        if value is not None and name.startswith(TAKEN):
            os.environ.setdefault(name, value)


def _run_code_of(root: Path) -> None:
    """Begin again with the package of a project's copy: the installed one may have been edited since it was queued."""
    code = root / "src"
    if not (code / "overtone").is_dir() or code in Path(__file__).resolve().parents:
        return
    paths = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH", "")]))
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "overtone", *sys.argv[1:]], os.environ | {"PYTHONPATH": paths})


def _end_orphans() -> None:
    from overtone.settings import project

    home = project.home()
    if home is None or not any((home / ".overtone" / "runs").glob("*.jsonl")):
        return
    from overtone.tracking import journal

    for run_id in journal.end_orphans():
        print(f"run {run_id}: its process is gone without having ended it; marked as killed", file=sys.stderr)
