"""What runs are called and what kind they are: names that say what differs from the committed settings, tags to filter by."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from overtone import settings
from overtone.settings import project
from overtone.tracking import entries, git

# sinc, sbr, cnn, rnn: whose scores a run holds.
SYSTEM = "overtone.system"
# training, trial, study, baseline.
KIND = "overtone.kind"
_NAME_LENGTH = 120


def run_name(model: str, params: settings.Params, unrelated: tuple[str, ...]) -> str:
    """The model, and the settings that differ from the commit's, such as `rnn · layers=1 · steps=350`.

    Args:
        model: cnn or rnn.
        params: all settings of the run.
        unrelated: how keys begin that this training does not depend on.
    """
    content = git.at(project.source() or Path.cwd(), "HEAD", project.SETTINGS)
    committed = flat(content) if content is not None else None
    shown = [
        f"{key.removeprefix(f'train.{model}.').removeprefix('train.')}={entries.text(value)}"
        for key, value in settings.flatten(params).items()
        if committed is not None and not key.startswith(unrelated) and committed.get(key) != value
    ]
    name = " · ".join([model, *shown])
    if len(name) > _NAME_LENGTH:
        name = f"{name[: _NAME_LENGTH - 1]}…"
    if experiment := os.environ.get("DVC_EXP_NAME"):
        name += f" ({experiment})"
    return name


def tags(system: str, kind: str, command: str, commit: str | None) -> dict[str, str]:
    """What tells runs apart when they are filtered: whose run it is, by which command, commit, stage and experiment."""
    facts = {
        SYSTEM: system,
        KIND: kind,
        "dvc_stage": os.environ.get("DVC_STAGE"),
        "dvc_exp_name": os.environ.get("DVC_EXP_NAME"),
        "mlflow.source.name": command,
        "mlflow.source.git.commit": commit,
    }
    return {name: value for name, value in facts.items() if value}


def flat(content: bytes) -> dict[str, Any] | None:
    """The settings in the text of a `params.yaml`, dotted; None where this code does not read it."""
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder) / project.SETTINGS
        path.write_bytes(content)
        try:
            return settings.flatten(settings.load(path))
        except settings.ParamsError:
            return None
