"""Sends hostile files through a door, in a process of its own: `doors.py DOOR FOLDER ...`, names as JSON on standard input.

Prints a line of JSON for each file, as soon as it is through, and its peak of memory in the end.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overtone import audio
from overtone.errors import OvertoneError

Door = Callable[[int, Path], None]


def reader(*_: str) -> Door:
    """The readers alone: header, blocks, excerpts."""

    def through(_: int, path: Path) -> None:
        info = audio.probe(path)
        samples = 0
        for block in audio.blocks(path):
            audio.check_samples(str(path), block)
            samples += block.shape[1]
        if not samples:
            raise audio.AudioError(f"{path}: holds no samples; expected audio")
        audio.check_end(path, info, samples)
        audio.read(path, max(0, info.frames // 2), 1_000)
        audio.remarks(path)

    return through


def predict(model: str) -> Door:
    """The model that MLflow serves."""
    import pandas as pd
    from mlflow.exceptions import MlflowException

    from overtone.registry import pyfunc

    served = pyfunc.UpsamplerModel()
    served.open(Path(model), pyfunc.LIMITS)

    def through(_: int, path: Path) -> None:
        try:
            answer = served.predict(None, pd.DataFrame({"audio": [path.read_bytes()]}))
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise OvertoneError(error.message) from None
        assert answer["audio"][0]

    return through


def build_corpus(folder: Path, out: str) -> None:
    """The stage, on a folder; it has no door for single files."""
    from overtone import settings as params
    from overtone.data import corpus

    settings = params.load(Path(__file__).parents[1] / "params.yaml").corpus
    lenient = {"path": folder, "min_seconds": 0.05, "min_bandwidth_hz": 0.0, "max_bad_share": 1.0}
    shares = {"valid_share": 0.3, "test_share": 0.3, "assign": params.Assign()}
    corpus.build(settings.model_copy(update=lenient | shares), 1, Path(out), workers=1)


def main(door: str, folder: str, *arguments: str) -> None:
    names: list[str] = json.load(sys.stdin)
    if space := int(os.environ.get("DOOR_BYTES", 0)):
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
    if door == "corpus":
        build_corpus(Path(folder), *arguments)
    else:
        doors: dict[str, Callable[..., Any]] = {"reader": reader, "predict": predict}
        through = doors[door](*arguments)
        for number, name in enumerate(names):
            began, refused = time.monotonic(), None
            try:
                through(number, Path(folder, name))
            except OvertoneError as error:
                refused = str(error)
            print(json.dumps({"name": name, "refused": refused, "seconds": time.monotonic() - began}), flush=True)
    print(json.dumps({"peak": peak()}))


def peak() -> int:
    """The most memory that this process held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not of getrusage, which counts what the parent held when it started this process.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])
