"""The released models: trained for long, kept in the repository's own DVC remote, fetched when they are first wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from overtone.tracking.store import TrackingError

FOLDER = "released"
# The model that most users want comes first.
NAMES = {"released": "rnn", "released-rnn": "rnn", "released-cnn": "cnn"}
FILES = ("weights.safetensors", "config.json")
_TIMEOUT_SECONDS = 600.0


def fetch(name: str, root: Path) -> Path:
    """The folder of a released model, pulled from the DVC remote if it is not there yet.

    Args:
        name: one of `NAMES`.
        root: of the project's clone.

    Raises:
        TrackingError: the project has no such model, or it cannot be pulled.
    """
    folder = root / FOLDER / NAMES[name]
    pointer = folder.with_name(f"{folder.name}.dvc")
    if not pointer.is_file():
        raise TrackingError(
            f"{pointer}: no such file; released models come with a clone of the project. Train one (make repro) or name "
            "a model folder with --model"
        )
    if _complete(folder):
        return folder
    command = [sys.executable, "-m", "dvc", "pull", str(pointer.relative_to(root))]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise TrackingError(
            f"{name}: dvc pull took more than {_TIMEOUT_SECONDS:.0f} s; is the remote reachable?"
        ) from None
    if done.returncode or not _complete(folder):
        told = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise TrackingError(f"{name}: dvc pull failed: {told[0] if told else 'the remote has no whole model'}")
    return folder


def present(root: Path) -> list[str]:
    """Names of the released models that a project's clone has, one for each."""
    kinds: dict[str, str] = {}
    for name, kind in NAMES.items():
        if (root / FOLDER / f"{kind}.dvc").is_file():
            kinds.setdefault(kind, name)
    return list(kinds.values())


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)
