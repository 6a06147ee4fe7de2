"""A model folder: the names of its files, its `config.json`, and the errors of one that cannot be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from overtone.errors import OvertoneError

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
# Counted up when older code can no longer read what this code writes. Format 1 held one network for both tasks.
FORMAT = 2
TASKS = ("extend", "restore")


class ModelError(OvertoneError):
    """A model folder that cannot be used; the message names the file and what was expected."""


def graph_of(task: str) -> str:
    """The name of a task's ONNX graph."""
    return f"{task}.onnx"


def digest(folder: Path) -> str:
    """SHA-256 of what graphs are made of: the weights, and the settings by which they are networks."""
    found = hashlib.sha256()
    for name in (WEIGHTS, CONFIG):
        found.update((folder / name).read_bytes())
    return found.hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's `config.json`.

    Raises:
        ModelError: no such folder, the file is missing or not a JSON object, or of a format that is not read.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelError(f"{folder}: not a model folder; expected {WEIGHTS} and {CONFIG} in it") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object")
    _check_format(path, config)
    return config


def _check_format(path: Path, config: Mapping[str, Any]) -> None:
    # Version 0.1.0 wrote no number.
    number = config.get("format", 1)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ModelError(f"{path}: format: expected a whole number from 1, got {number!r}")
    if number > FORMAT:
        maker = config.get("overtone", "that made it")
        raise ModelError(
            f"{path}: a model folder of format {number}, and this version of overtone reads {FORMAT}; "
            f"install overtone {maker} or later"
        )
    if number < FORMAT:
        raise ModelError(
            f"{path}: a model folder of format {number}, and this version of overtone reads {FORMAT}: train it again, "
            f"use the model `released`, or use it with overtone {config.get('overtone', '0.1.0')}"
        )
