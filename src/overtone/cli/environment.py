"""Variables of this machine that every process of a project shall have, kept out of git in its `.env`."""

from __future__ import annotations

import os

FILE = ".env"
# What the project and its stores look at; a file for other programs too changes nothing else here.
TAKEN = ("MLFLOW_", "OVERTONE_", "AWS_")


def load() -> None:
    """Take the variables of the project's `.env` that are not set.

    DVC runs queued experiments in whatever environment its worker was started in, so a tracking server that only the
    shell knows is lost on the way.
    """
    from overtone.tracking import store

    path = store.repository_root() / FILE
    if not path.is_file():
        return
    from dotenv import dotenv_values

    for name, value in dotenv_values(path).items():
        if value is not None and name.startswith(TAKEN):
            os.environ.setdefault(name, value)
