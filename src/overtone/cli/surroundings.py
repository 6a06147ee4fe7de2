"""What every command sees to before it begins: the project's `.env`, and which copy of the code is run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from overtone.cli.app import app


@app.callback()
def prepare() -> None:
    """Take the variables of the project's `.env`; in a copy that DVC made for an experiment, run that copy's code."""
    from overtone.cli import environment
    from overtone.tracking import store

    environment.load()
    if store.in_copy():
        _run_code_of(store.source_root())


def _run_code_of(root: Path) -> None:
    """Begin again with the package of a project's copy: the installed one may have been edited since it was queued."""
    code = root / "src"
    if not (code / "overtone").is_dir() or code in Path(__file__).resolve().parents:
        return
    paths = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH", "")]))
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "overtone", *sys.argv[1:]], os.environ | {"PYTHONPATH": paths})
